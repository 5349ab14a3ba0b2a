/* Uses select(2) where poll(2) refuses: that takes no more descriptors than RLIMIT_NOFILE, which may be 0. */
#define _GNU_SOURCE
#include "wait_readable.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

int fd_wait_readable(int fd, int64_t nanoseconds)
{
    enum { SECOND = 1000000000, BITS = 8 * sizeof(long) };
    if (fd < 0)
        return -EBADF;
    struct timespec left = {nanoseconds / SECOND, nanoseconds % SECOND};
    struct timespec *timeout = nanoseconds < 0 ? NULL : &left;
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    int n = ppoll(&pollfd, 1, timeout, NULL);
    if (n >= 0 || errno != EINVAL)
        return n < 0 ? -errno : n;
    size_t words = (size_t)fd / BITS + 1;
    unsigned long few[64] = {0}, *set = words <= 64 ? few : calloc(words, sizeof *set);
    if (!set)
        return -ENOMEM;
    set[fd / BITS] = 1UL << fd % BITS;
    long result = SYS(__NR_pselect6, fd + 1, set, NULL, NULL, timeout);
    if (set != few)
        free(set);
    return (int)result;
}

int fd_is_hung_up(int fd)
{
    struct pollfd pollfd = {.fd = fd}; /* POLLHUP and POLLERR are reported without being asked for */
    int n = poll(&pollfd, 1, 0);
    if (n >= 0 || errno != EINVAL)
        return n < 0 ? -errno : n;
    /* As above. select(2) reports it as readability, so it is not known while there is something to read. */
    int left = 0, reads = (fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY;
    if (reads && ioctl(fd, FIONREAD, &left) == 0 && left > 0)
        return -EINVAL;
    return fd_wait_readable(fd, 0);
}

int fd_is_readable(int fd)
{
    return fd_wait_readable(fd, 0) == 1;
}
