#define _GNU_SOURCE
#include "lifelines.h"
#include "reserved_numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { PID_FS_MAGIC = 0x50494446 }; /* linux/magic.h, Linux 6.9 */

static struct life current = {.read = {.fd = -1}, .write = {.fd = -1}, .self = {.fd = -1}};
static int have, has_pidfs;

int life_has_pidfs(void)
{
    return has_pidfs;
}

void life_forget(void)
{
    current.read.fd = current.write.fd = current.self.fd = -1;
    have = 0;
}

void life_drop(void)
{
    fds_close(&current.read);
    fds_close(&current.write);
    fds_close(&current.self);
    have = 0;
}

/* Takes `fd` over, and moves it off 0, 1 and 2. */
static int take(struct owned *owned, int fd)
{
    int error = fds_move_above_stdio(&fd);
    fds_own(owned, fd);
    return error;
}

static int make_pipe(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int error = take(&current.read, ends[0]);
    int other = take(&current.write, ends[1]);
    return error < 0 ? error : other;
}

/* Makes those that we do not have. */
static int make(const char **call)
{
    *call = "pipe2(2)";
    int error = current.read.fd < 0 || current.write.fd < 0 ? make_pipe() : 0;
    if (error < 0)
        return error;
    if (current.self.fd >= 0)
        return 0;
    *call = "pidfd_open(2)";
    long self = SYS(__NR_pidfd_open, getpid(), 0); /* a pidfd is always close-on-exec; Linux 5.3 */
    if (self < 0)
        return (int)self;
    struct statfs stat;
    has_pidfs = fstatfs((int)self, &stat) == 0 && stat.f_type == PID_FS_MAGIC;
    return take(&current.self, (int)self);
}

const struct life *life_get(int *error, const char **call)
{
    *error = 0;
    if (!have) {
        int is_first = current.read.fd < 0 && current.self.fd < 0;
        *error = make(call);
        if (*error < 0) {
            if (is_first) /* else guardians live by what is left */
                life_drop();
            return NULL;
        }
        have = 1;
        current.generation++;
        reserve_hold(current.read.fd);
    }
    return &current;
}

/* Before Linux 6.9 many pidfds have the same identity. Then we only check that it is a pidfd at all. */
static int is_pidfd(int fd)
{
    return SYS(__NR_pidfd_send_signal, fd, 0, 0, 0) != -EBADF;
}

void life_check(void)
{
    if (!have)
        return;
    /* An end that is left is not closed: guardians live by it. */
    if (!fds_are_ours(&current.read) || !fds_are_ours(&current.write))
        current.read.fd = current.write.fd = -1;
    if (!fds_are_ours(&current.self) || !is_pidfd(current.self.fd))
        current.self.fd = -1;
    have = current.read.fd >= 0 && current.self.fd >= 0;
}

void life_doubt(unsigned generation)
{
    if (!have)
        return;
    if (current.generation != generation) {
        life_check(); /* they are new, but perhaps another thread's, whose descriptor table is its own */
        return;
    }
    int pipe = fds_compare(current.read.fd, &current.read.identity) == SAME &&
               fds_compare(current.write.fd, &current.write.identity) == SAME;
    int self = has_pidfs && fds_compare(current.self.fd, &current.self.identity) == SAME;
    if (!pipe || self)
        current.read.fd = current.write.fd = -1;
    if (!self || pipe)
        current.self.fd = -1;
    have = 0;
}
