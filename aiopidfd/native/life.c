#define _GNU_SOURCE
#include "life.h"
#include "fds.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct life NONE = {-1, -1, -1};
static struct life current = {-1, -1, -1};
static int have;
static struct stat pipe_identity, self_identity;

static void close_all(struct life *life)
{
    int fds[3] = {life->read_fd, life->write_fd, life->self_fd};
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            SYS(__NR_close, fds[i]);
    *life = NONE;
}

static int make(struct life *life)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    life->read_fd = ends[0];
    life->write_fd = ends[1];
    long self = SYS(__NR_pidfd_open, getpid(), 0); /* close-on-exec always; Linux 5.3 */
    if (self < 0)
        return (int)self;
    life->self_fd = (int)self;
    int *fds[3] = {&life->read_fd, &life->write_fd, &life->self_fd};
    for (int i = 0; i < 3; i++) {
        int error = move_above_stdio(fds[i]);
        if (error < 0)
            return error;
    }
    if (fstat(life->write_fd, &pipe_identity) < 0 || fstat(life->self_fd, &self_identity) < 0)
        return -errno;
    return 0;
}

static int is_still(int fd, const struct stat *identity)
{
    struct stat now;
    return fstat(fd, &now) == 0 && now.st_dev == identity->st_dev && now.st_ino == identity->st_ino;
}

/* A pidfd has an inode of its own since Linux 6.9; before that all of them, and more, share one. */
static int are_still_ours(void)
{
    return is_still(current.read_fd, &pipe_identity) && is_still(current.write_fd, &pipe_identity) &&
           is_still(current.self_fd, &self_identity) &&
           SYS(__NR_pidfd_send_signal, current.self_fd, 0, 0, 0) != -EBADF;
}

int life_get(struct life *life)
{
    /* A host that becomes a daemon closes descriptors it does not know. The numbers may be somebody
     * else's by now, so what is left of ours is forgotten, not closed. */
    if (have && !are_still_ours()) {
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
