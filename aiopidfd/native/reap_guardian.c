/* A guardian that has ended is reaped, and so are those that an exec of this process has left. */
#define _GNU_SOURCE
#include "child.h"
#include "lifelines.h"
#include "pidinfo.h"
#include "descendants.h"

#include <stdlib.h>
#include <sys/wait.h>

/* Whether the guardian is a zombie, or about to be one, where it cannot be reaped. A closed number would be
 * "readable" too, and so may be a file of the host's. */
static int guardian_has_ended(const struct child *child)
{
    if (!child->record || atomic_load(&child->record->alive) == 0)
        return 1;
    return child_pidfd_is_ours(&child->guardian, child->guardian_pid) && fd_is_readable(child->guardian.fd);
}

/* Reaps the guardian by its pidfd; or by its pid, where the pidfd was closed or has no identity. Looks only
 * among children that send no SIGCHLD (__WCLONE), so that even a pid that was given away since cannot hit an
 * ordinary child of the host. ECHILD: somebody else who passes __WALL has reaped the guardian. That does no harm,
 * because all that the guardian had to say is in the record. */
void child_reap_guardian(struct child *child)
{
    if (child->guardian_reaped || !child->guardian_pid)
        return;
    struct owned *guardian = &child->guardian;
    if (child->record)
        guardian->identity = child->record->guardian_identity;
    int is_known = life_has_pidfs() && guardian->identity.inode;
    int by_pidfd = is_known && fds_compare(guardian->fd, &guardian->identity) == SAME;
    siginfo_t info = {.si_pid = 0};
    long result = -EBADF;
    if (by_pidfd)
        result = SYS(__NR_waitid, WAIT_PIDFD, guardian->fd, &info, WEXITED | WNOHANG | __WCLONE, NULL);
    int is_it = result == 0 && info.si_pid != 0;
    if (result == -ECHILD && fds_compare(guardian->fd, &guardian->identity) != SAME)
        result = -EBADF; /* the host has just put another pidfd there */
    if (result == -EBADF)
        result = SYS(__NR_waitid, P_PID, child->guardian_pid, &info, WEXITED | WNOHANG | __WCLONE, NULL);
    if (result == -ECHILD || (result == 0 && info.si_pid != 0))
        child->guardian_reaped = 1;
    else if (result < 0 && result != -EINTR) /* the host has since installed a filter */
        child->guardian_reaped = guardian_has_ended(child);
    if (!child->guardian_reaped)
        return;
    if (is_it) { /* the kernel has just told that it is its pidfd */
        SYS(__NR_close, guardian->fd);
        guardian->fd = -1;
    } else {
        child_close_pidfd(guardian, child->guardian_pid);
    }
}

/* Finds a child that has exited and sends no SIGCHLD: `pid`, or the first one. Returns its pid, or 0. */
static int zombie_without_signal(int type, int pid, int options)
{
    siginfo_t info = {.si_pid = 0};
    long result = SYS(__NR_waitid, type, pid, &info, WEXITED | WNOHANG | __WCLONE | options, NULL);
    return result == 0 ? info.si_pid : 0;
}

static int reap_if_guardian(int pid)
{
    return pidinfo_is_named(pid, "aiopidfd-guard") && zombie_without_signal(P_PID, pid, 0) > 0;
}

/* After an exec of this process, the guardians of the old program have ended. They are zombies that no
 * ordinary wait reaps, because they send no SIGCHLD. The first starts look for them, by the name that
 * guardians have (proc_pid_comm(5)). If a guardian of our own is found here, it is reaped a moment early.
 * waitid(2) shows the first zombie alone. If that is not a guardian, perhaps because it was killed at its
 * birth, those behind it are found in /proc. */
void child_reap_guardians_before_exec(void)
{
    static int looks_left = 16;
    int pid;
    while (looks_left > 0 && (pid = zombie_without_signal(P_ALL, 0, WNOWAIT)) > 0) {
        if (reap_if_guardian(pid))
            continue;
        int *pids = NULL;
        size_t n = tree_own_children(&pids);
        for (size_t i = 0; i < n; i++)
            if (zombie_without_signal(P_PID, pids[i], WNOWAIT) > 0)
                reap_if_guardian(pids[i]);
        free(pids);
        break;
    }
    looks_left -= looks_left > 0;
}
