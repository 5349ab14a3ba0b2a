#include "guardian_kills_children.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <unistd.h>

/* sched(7). The C library's header conflicts with the kernel's. */
struct sched_param {
    int sched_priority;
};

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The numbers in /proc must be those that kill(2) takes. After unshare(CLONE_NEWPID), or under a foreign
 * mount, they belong to another pid namespace. */
static int proc_is_ours(void)
{
    char name[16];
    long length = SYS(__NR_readlinkat, AT_FDCWD, "/proc/self", name, sizeof name);
    long pid = 0;
    for (long i = 0; i < length; i++) {
        if (!is_digit(name[i]))
            return 0;
        pid = pid * 10 + (name[i] - '0');
    }
    return pid > 0 && pid == SYS(__NR_getpid);
}

int aiopidfd_children_open(void)
{
    if (!proc_is_ours())
        return -ENOTSUP;
    return (int)SYS(__NR_openat, AT_FDCWD, "/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
}

long aiopidfd_children_kill(int fd, int outrun)
{
    /* Always read on, never at an offset. Only then a read continues where the last one cut a number off,
     * even if the list has changed (seq_file). A number counts when we have seen the space after it. */
    char text[256]; /* the buffer is short, so that a listed child is killed before it can fork and exit */
    struct sched_param lowest;
    lowest.sched_priority = 0;
    long pid = 0, newest = 0, length;
    SYS(__NR_lseek, fd, 0, SEEK_SET);
    while ((length = SYS(__NR_read, fd, text, sizeof text)) > 0)
        for (long i = 0; i < length; i++) {
            if (is_digit(text[i])) {
                pid = pid * 10 + (text[i] - '0');
                continue;
            }
            if (pid > 0) {
                if (outrun)
                    SYS(__NR_sched_setscheduler, pid, SCHED_IDLE, &lowest);
                SYS(__NR_kill, pid, SIGKILL);
            }
            newest = pid > newest ? pid : newest;
            pid = 0;
        }
    return newest;
}
