/* The guardian leaves the descriptor table that it shares with the host, and keeps nothing that is the host's.
 * The contract of guardian.c holds here. */
#include "after_clone.h"
#include "fd_identity.h"

#include <linux/close_range.h>

/* We must neither write to a file that the host has put at one of our numbers behind our back, nor hold it
 * open. And a descriptor that is no longer our lifeline says nothing about our parent. The table is ours by
 * now. */
static void drop_stranger(int *fd, const struct identity *identity)
{
    if (fds_is(*fd, identity))
        return;
    if (*fd >= 0)
        SYS(__NR_close, *fd);
    *fd = -1;
}

/* Leaves the descriptor table that we share with our parent. We keep only what we wait on and what we write
 * to. Otherwise we would keep a pipe's writer or a listening socket of the parent open. Unsharing copies only
 * the part of the table below the first closed range (close_range(2), Linux 5.9). Returns 0 or -errno. */
long aiopidfd_leave_table(struct record *record)
{
    int keep[] = {record->life_fd, record->self_fd, record->event_fd, record->kill_fd};
    enum { N = sizeof keep / sizeof *keep };
    for (int i = 1; i < N; i++) /* sorted; each -1 comes first */
        for (int k = i; k > 0 && keep[k - 1] > keep[k]; k--) {
            int higher = keep[k - 1];
            keep[k - 1] = keep[k];
            keep[k] = higher;
        }
    long result = SYS(__NR_close_range, keep[N - 1] + 1, ~0U, CLOSE_RANGE_UNSHARE);
    if (result < 0)
        return result;
    for (int i = 0, next = 0; i < N; next = keep[i++] + 1)
        if (keep[i] > next)
            SYS(__NR_close_range, next, keep[i] - 1, 0);
    drop_stranger(&record->event_fd, &record->event);
    drop_stranger(&record->kill_fd, &record->kill);
    drop_stranger(&record->life_fd, &record->life);
    drop_stranger(&record->self_fd, &record->self);
    return 0;
}
