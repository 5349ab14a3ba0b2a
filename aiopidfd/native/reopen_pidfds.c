/* The pidfds of a program and its guardian: whether a number still is that one, and opening it again if not.
 *
 * Since Linux 6.9 a pidfd's inode tells. Before that, and where the guardian could not note it, the pid does. */
#define _GNU_SOURCE
#include "child.h"
#include "lifelines.h"
#include "pidinfo.h"

int child_pidfd_is_ours(const struct owned *pidfd, int pid)
{
    if (pidfd->identity.inode && life_has_pidfs()) {
        enum same same = fds_compare(pidfd->fd, &pidfd->identity);
        if (same != NOT_TOLD)
            return same == SAME;
    }
    if (pidfd->fd < 0 || SYS(__NR_pidfd_send_signal, pidfd->fd, 0, 0, 0) == -EBADF)
        return 0;
    int now = pidinfo_pid(pidfd->fd);
    return now <= 0 || now == pid || pid == 0; /* one of a reaped process has no pid any more */
}

void child_close_pidfd(struct owned *pidfd, int pid)
{
    if (pidfd->fd >= 0 && child_pidfd_is_ours(pidfd, pid))
        SYS(__NR_close, pidfd->fd);
    pidfd->fd = -1;
}

/* If somebody has closed a pidfd, it is opened again by the pid. Since Linux 6.9 the inode tells whether the
 * new one is the same process, even if the pid was given to another process. */
static int hold(struct owned *pidfd, int pid)
{
    if (child_pidfd_is_ours(pidfd, pid))
        return 0;
    if (pid <= 0 || pidfd->identity.inode == 0 || !life_has_pidfs())
        return -EBADF;
    struct owned anew = *pidfd;
    anew.fd = (int)SYS(__NR_pidfd_open, pid, 0);
    if (anew.fd < 0)
        return anew.fd;
    if (fds_compare(anew.fd, &anew.identity) != SAME) {
        SYS(__NR_close, anew.fd);
        return -ESRCH;
    }
    fds_move_above_stdio(&anew.fd);
    *pidfd = anew;
    return 1;
}

int child_hold_program(struct child *child)
{
    int result = hold(&child->pidfd, child->pid);
    if (result > 0)
        hub_watch_program(child);
    return result < 0 ? result : 0;
}

/* A host may close both pidfds of a program and leave the hub whole. Then no event tells of the program's exit.
 * So each start looks at some, in turn: all are looked at in time, and a start costs the same. */
void child_look_after_pidfds(void)
{
    enum { SOME = 2 };
    for (int n = SOME; n && life_has_pidfs() && all_children.next != &all_children; n--) {
        struct child *child = all_children.next->child;
        list_remove(&child->all);
        list_append(&all_children, &child->all, child);
        int runs = child->state == CHILD_RUNNING || child->state == CHILD_ORPHANED;
        int is_watched = runs && child->hub && !child->is_unwatched;
        if (is_watched && child_hold_program(child) < 0)
            hub_watch_without_event(child);
    }
}

int child_hold_guardian(struct child *child)
{
    struct failure failure;
    int has_none = child->guardian_reaped || child->state == CHILD_FOREIGN; /* it is another process's */
    int result = has_none ? -ESRCH : hold(&child->guardian, child->guardian_pid);
    if (result > 0 && child->hub)
        hub_watch(child, child->guardian.fd, 0, &failure);
    return result < 0 ? result : 0;
}

/* Whether a number that the kernel stored at a child's birth still means that child, alive or dead. */
int child_born_is_ours(const struct record *record, int guardian_pid, int fd)
{
    if (fd < 0 || SYS(__NR_pidfd_send_signal, fd, 0, 0, 0) == -EBADF)
        return 0;
    if (record->child_identity.inode && life_has_pidfs()) {
        enum same same = fds_compare(fd, &record->child_identity);
        if (same != NOT_TOLD)
            return same == SAME;
    }
    if (record_is_numbered_elsewhere(record, guardian_pid))
        return 1; /* it is in another pid namespace: we do not know its pid */
    int pid = pidinfo_pid(fd);
    return pid <= 0 || pid == atomic_load(&record->born);
}
