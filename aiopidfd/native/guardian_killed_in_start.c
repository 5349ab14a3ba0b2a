/* What becomes of a child whose guardian was killed while it started the program. If it was killed later, the
 * program is an orphan: orphan_exit.c. */
#define _GNU_SOURCE
#include "child.h"

/* Whether there is, or was, a child, so that child_pidfd is a descriptor and not just a number. */
int child_was_born(const struct record *record)
{
    return record->call == CALL_CLONE3 ? atomic_load(&record->born) != 0 : atomic_load(&record->claim) == CLAIM_CHILD;
}

/* The descriptor of a child that was killed at birth, or -1. A guardian that was killed between two of its
 * statements may have left the same number in both places. Then the number is that of the living child. */
int child_stillborn_pidfd(const struct record *record)
{
    int fd = record->stillborn_pidfd;
    return child_was_born(record) && fd == record->child_pidfd ? -1 : fd;
}

/* Call it once the guardian is past the clone. */
void child_close_stillborn(struct record *record)
{
    struct owned pidfd = {.fd = child_stillborn_pidfd(record)};
    record->stillborn_pidfd = -1;
    child_close_pidfd(&pidfd, 0);
}

static int a_second_has_passed(struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (since->tv_sec == 0 && since->tv_nsec == 0)
        *since = now;
    return now.tv_sec - since->tv_sec > 1 || (now.tv_sec - since->tv_sec == 1 && now.tv_nsec >= since->tv_nsec);
}

/* The guardian was killed while it started the program. The caller gets an error, so no child may run on
 * without the caller knowing it. Nothing is done until we can tell whether there is a child. */
void child_collect_lost_start(struct child *child)
{
    struct record *record = child->record;
    if (child_was_born(record)) {
        if (child_born_is_ours(record, child->guardian_pid, record->child_pidfd)) {
            fds_own(&child->pidfd, record->child_pidfd);
            SYS(__NR_pidfd_send_signal, child->pidfd.fd, SIGKILL, 0, 0);
        }
        child->state = CHILD_DYING;
    } else if (record->call == CALL_CLONE && atomic_load(&record->cloning) && record->child_pidfd >= 0) {
        /* A child may have been born that has not run its first instruction yet. Normally it runs that within
         * microseconds. On a very loaded machine it may need more than a second. Then it must leave as soon
         * as it runs. It will read its record, so the record stays. */
        if (!a_second_has_passed(&child->lost_since))
            return;
        int unclaimed = CLAIM_NONE;
        if (!atomic_compare_exchange_strong(&record->claim, &unclaimed, CLAIM_SPAWNER))
            return;
        child->record = NULL;
        child->child_block = NULL;
        child_fail(child, ECHILD, FAILED_GUARDIAN);
    } else {
        child_fail(child, ECHILD, FAILED_GUARDIAN);
    }
    child_close_stillborn(record);
    child_close_handed_over(child);
    child_end_start(child);
    if (child->pidfd.fd >= 0)
        hub_watch_program(child);
    child->error = ECHILD;
    child->failed_step = FAILED_GUARDIAN;
}
