/* LD_PRELOAD: makes the n-th call of one function fail, be interrupted, or be the last thing the process does.
 * The test arms it through shim_arm; descriptors 0 to 2 are left alone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
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
    return hit("pread") ? -1 : real(fd, data, len, at);
}
int fsync(int fd)
{
    REAL(int, fsync, int);
    return hit("fsync") ? -1 : real(fd);
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
