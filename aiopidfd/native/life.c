#define _GNU_SOURCE
#include "life.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct life NONE = {-1, -1, -1, -1};
static struct life current = {-1, -1, -1, -1};
static int have;
static struct stat pipe_identity;

static void close_all(struct life *life)
{
    int fds[4] = {life->read_fd, life->write_fd, life->self_fd, life->sigchld_fd};
    for (int i = 0; i < 4; i++)
        if (fds[i] >= 0)
            SYS(__NR_close, fds[i]);
    *life = NONE;
}

/* Above the standard three: a host that runs with 0 to 2 closed must not find ours there. */
static int above_stdio(int fd)
{
    if (fd < 0 || fd > 2)
        return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int error = errno;
    close(fd);
    errno = error;
    return moved;
}

static int make(struct life *life)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    life->write_fd = ends[1];
    if ((life->read_fd = above_stdio(ends[0])) < 0 || (life->write_fd = above_stdio(ends[1])) < 0)
        return -errno;
    sigset_t sigchld;
    sigemptyset(&sigchld);
    sigaddset(&sigchld, SIGCHLD);
    if ((life->sigchld_fd = above_stdio(signalfd(-1, &sigchld, SFD_CLOEXEC | SFD_NONBLOCK))) < 0)
        return -errno;
    long self = SYS(__NR_pidfd_open, getpid(), 0); /* close-on-exec always; Linux 5.3 */
    if (self < 0)
        return (int)self;
    if ((life->self_fd = above_stdio((int)self)) < 0)
        return -errno;
    return fstat(life->write_fd, &pipe_identity) < 0 ? -errno : 0;
}

static int is_our_pipe(int fd)
{
    struct stat now;
    return fstat(fd, &now) == 0 && now.st_dev == pipe_identity.st_dev && now.st_ino == pipe_identity.st_ino;
}

int life_get(struct life *life)
{
    /* A host that becomes a daemon closes descriptors it does not know. The numbers may be somebody
     * else's by now, so what is left of ours is forgotten, not closed. */
    if (have && !(is_our_pipe(current.read_fd) && is_our_pipe(current.write_fd))) {
        current = NONE;
        have = 0;
    }
    if (!have) {
        int error = make(&current);
        if (error < 0) {
            close_all(&current);
            return error;
        }
        have = 1;
    }
    *life = current;
    return 0;
}

void life_drop(void)
{
    if (have)
        close_all(&current);
    have = 0;
}
