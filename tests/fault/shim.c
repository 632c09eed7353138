/* LD_PRELOAD: makes the n-th call of one function fail, be interrupted, or be the last thing the process does.
 * The test arms it through shim_arm; descriptors 0 to 2 are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static char armed[32];
static long left = -1;
static int number;
static long seen;

void shim_arm(const char *call, long nth, int error);
long shim_seen(void);

/* error > 0: fail with it; 0: kill the process; call "any": every function counts. */
void shim_arm(const char *call, long nth, int error)
{
    strncpy(armed, call, sizeof armed - 1);
    left = nth;
    number = error;
    seen = 0;
}

long shim_seen(void)
{
    return seen;
}

static int hit(const char *call)
{
    if (strcmp(armed, call) != 0 && strcmp(armed, "any") != 0) {
        return 0;
    }
    __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
    if (left < 0 || __atomic_fetch_sub(&left, 1, __ATOMIC_SEQ_CST) != 0) {
        return 0;
    }
    if (number == 0) {
        kill(getpid(), SIGKILL);
        pause();
    }
    errno = number;
    return 1;
}

/* Which bytes of which file were read with pread, and how often a byte was read again. */
static struct { dev_t dev; ino_t ino; off64_t at; size_t len; } ranges[8192];
static size_t range_count;
static long overlaps;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void shim_forget(void);
long shim_overlaps(void);

void shim_forget(void)
{
    range_count = 0;
    overlaps = 0;
}

long shim_overlaps(void)
{
    return overlaps;
}

static void remember(int fd, off64_t at, size_t len)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0) {
        return;
    }
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < range_count; i++) {
        if (ranges[i].dev == facts.st_dev && ranges[i].ino == facts.st_ino && at < ranges[i].at + (off64_t)ranges[i].len &&
            ranges[i].at < at + (off64_t)len) {
            overlaps++;
        }
    }
    if (range_count < sizeof ranges / sizeof ranges[0]) {
        ranges[range_count].dev = facts.st_dev;
        ranges[range_count].ino = facts.st_ino;
        ranges[range_count].at = at;
        ranges[range_count++].len = len;
    } else {
        overlaps++; /* too much to tell: the test must notice */
    }
    pthread_mutex_unlock(&lock);
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t len)
{
    REAL(ssize_t, write, int, const void *, size_t);
    return fd > 2 && hit("write") ? -1 : real(fd, data, len);
}
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    return hit("pwrite") ? -1 : real(fd, data, len, at);
}
ssize_t pread64(int fd, void *data, size_t len, off64_t at)
{
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    if (hit("pread")) {
        return -1;
    }
    ssize_t got = real(fd, data, len, at);
    if (got > 0) {
        remember(fd, at, (size_t)got);
    }
    return got;
}
int fsync(int fd)
{
    REAL(int, fsync, int);
    return hit("fsync") ? -1 : real(fd);
}
int syncfs(int fd)
{
    REAL(int, syncfs, int);
    return hit("syncfs") ? -1 : real(fd);
}
int ftruncate64(int fd, off64_t len)
{
    REAL(int, ftruncate64, int, off64_t);
    return hit("ftruncate") ? -1 : real(fd, len);
}
int fchmod(int fd, mode_t mode)
{
    REAL(int, fchmod, int, mode_t);
    return hit("fchmod") ? -1 : real(fd, mode);
}
int rename(const char *from, const char *to)
{
    REAL(int, rename, const char *, const char *);
    return hit("rename") ? -1 : real(from, to);
}
