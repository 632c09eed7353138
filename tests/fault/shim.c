/* LD_PRELOAD: makes the n-th call of one function fail, be interrupted, or be the last thing the process does; or lets another
 * process change a file after the n-th read of it. The test arms it through shim_arm; descriptors 0 to 2 are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static char armed[32];
static long left = -1;
static int number;
static long seen;

void shim_arm(const char *call, long nth, int error);
long shim_seen(void);

enum { KILL = 0, GROW = -1, SHRINK = -2, CHANGE_READ = -3, CHANGE_NEXT = -4 };

/* error > 0: fail with it; else one of the above, below zero for "data" only, which is a
 * pread that gave some; call "any": every function counts. */
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
    if (number == KILL) {
        kill(getpid(), SIGKILL);
        pause();
    }
    errno = number > 0 ? number : errno;
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
/* What another process does to a file of which the bytes from `at` to before `end` have just been read. */
static void tamper(int fd, off64_t at, off64_t end)
{
    char path[64];
    struct stat facts;
    unsigned char byte = 'x';
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0 || fstat(file, &facts) != 0) {
        return;
    }
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    off64_t place = number == GROW ? facts.st_size : number == CHANGE_NEXT && end < facts.st_size ? end : (at + end) / 2;
    if (number == SHRINK) {
        (void)!truncate(path, facts.st_size / 2);
    } else if (number == GROW || real(file, &byte, 1, place) == 1) {
        byte ^= 1;
        (void)!(lseek(file, place, SEEK_SET) == place && syscall(SYS_write, file, &byte, 1));
    }
    (void)close(file);
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
        if (strcmp(armed, "data") == 0 && hit("data") && number < 0) {
            tamper(fd, at, at + got);
        }
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
int mkdir(const char *path, mode_t mode)
{
    REAL(int, mkdir, const char *, mode_t);
    return hit("mkdir") ? -1 : real(path, mode);
}
int linkat(int from, const char *old, int to, const char *new, int flags)
{
    REAL(int, linkat, int, const char *, int, const char *, int);
    return hit("link") ? -1 : real(from, old, to, new, flags);
}
int unlink(const char *path)
{
    REAL(int, unlink, const char *);
    return hit("unlink") ? -1 : real(path);
}
/* New files only, with or without a name. */
int open64(const char *path, int flags, ...)
{
    REAL(int, open64, const char *, int, ...);
    va_list rest;
    va_start(rest, flags);
    int creates = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
    mode_t mode = creates ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return creates && hit("create") ? -1 : real(path, flags, mode);
}
