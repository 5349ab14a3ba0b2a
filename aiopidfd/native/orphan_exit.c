/* How a program ended whose guardian was killed while it ran. */
#define _GNU_SOURCE
#include "child.h"
#include "pidinfo.h"

#include <sys/wait.h>

/* The program runs on without a guardian. Its pidfd still tells when it exits. We can learn how it ended if
 * it has become our own child (we are init or a subreaper), or in the way that pidinfo.h describes. */
void child_collect_orphan(struct child *child)
{
    int held = child_hold_program(child);
    if (held == -EMFILE || held == -ENFILE || held == -ENOMEM)
        return; /* the pidfd was closed behind our back, and cannot be opened again now: we look again */
    if (held < 0) { /* we learn nothing more */
        child->state = child->state == CHILD_DYING ? CHILD_FAILED : CHILD_UNKNOWN;
        return;
    }
    int fd = child->pidfd.fd;
    if (!fd_is_readable(fd))
        return;
    siginfo_t info = {.si_pid = 0};
    int ours = waitid((idtype_t)WAIT_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG | __WALL) == 0 && info.si_pid != 0;
    if (child->state == CHILD_DYING) {
        child->state = CHILD_FAILED;
    } else if (ours) {
        child->code = info.si_code;
        child->status = info.si_status;
        child->state = CHILD_EXITED;
    } else {
        int result = pidinfo_exit(fd, child->pid, &child->code, &child->status);
        if (result != -EAGAIN) /* else the program is not reaped yet; the pidfd will tell of that too (Linux
                                  6.15) */
            child->state = result == 0 ? CHILD_EXITED : CHILD_UNKNOWN;
    }
}
