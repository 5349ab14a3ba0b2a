/* What has become of a child. The states are drawn in spawner.h. */
#define _GNU_SOURCE
#include "child.h"
#include "pidinfo.h"

void child_collect_start(struct child *child)
{
    struct record *record = child->record;
    child_close_stillborn(record);
    child->pidfd.fd = record->child_pidfd;
    child->pidfd.identity = record->child_identity;
    child->guardian.identity = record->guardian_identity;
    /* After unshare(CLONE_NEWPID) or setns() the guardian and the program are in another pid namespace than
     * we. */
    int is_numbered_elsewhere = record_is_numbered_elsewhere(record, child->guardian_pid);
    child->pid = is_numbered_elsewhere ? 0 : record->child_pid;
    if (is_numbered_elsewhere && child_pidfd_is_ours(&child->pidfd, 0))
        child->pid = pidinfo_pid(child->pidfd.fd);
    if (child->pid < 0)
        child->pid = 0; /* it is over already */
    /* By now the host may have opened its own 0, 1 and 2. If the move fails, it stays where the kernel has put
     * it. */
    if (child->pidfd.fd <= 2 && child_pidfd_is_ours(&child->pidfd, child->pid))
        fds_move_above_stdio(&child->pidfd.fd);
    child_close_handed_over(child);
    record_free_child_block(child);
    child->state = CHILD_RUNNING;
    child_end_start(child);
    hub_watch_program(child);
}

void child_fail(struct child *child, int error, int failed_step)
{
    child->error = error;
    child->failed_step = failed_step;
    child->state = CHILD_FAILED;
}

static void collect_failure(struct child *child)
{
    struct record *record = child->record;
    child_close_stillborn(record);
    if (child_was_born(record) && child_born_is_ours(record, child->guardian_pid, record->child_pidfd))
        SYS(__NR_close, record->child_pidfd);
    child_close_handed_over(child);
    child_fail(child, record->error, record->failed_step);
    child_end_start(child);
}

/* Notes how the program ended. If the guardian is still there, the record stays too. */
static void collect_exit(struct child *child)
{
    const struct record *record = child->record;
    child->code = record->code;
    child->status = record->status;
    child->usage = record->usage;
    child->has_usage = 1;
    child->state = CHILD_EXITED;
}

/* For a child that has, or had, a guardian. The phase is read after `alive`: if `alive` is 0, the phase is
 * the last one. */
static void advance_with_record(struct child *child)
{
    struct record *record = child->record;
    int left = guardian_has_left_memory(child);
    int phase = atomic_load(&record->phase);
    if (left)
        child_reap_guardian(child);
    if (child->state == CHILD_STARTING) {
        if (phase == PHASE_RUNNING || phase == PHASE_EXITED)
            child_collect_start(child);
        else if (phase == PHASE_FAILED && start_may_be_repeated(child) && (!child->guardian_reaped || start_again(child)))
            return;
        else if (phase == PHASE_FAILED)
            collect_failure(child);
        else if (left)
            child_collect_lost_start(child);
    }
    if (child->state == CHILD_RUNNING && phase == PHASE_EXITED) {
        collect_exit(child);
    } else if (child->state == CHILD_RUNNING && left) {
        child->state = CHILD_ORPHANED;
        /* The guardian may have died just before it could obey the request. */
        if (atomic_load(&record->kill_requested) && child_hold_program(child) == 0)
            SYS(__NR_pidfd_send_signal, child->pidfd.fd, SIGKILL, 0, 0);
    }
    if (left) /* before the phase was read, so the phase was its last */
        record_free_when_left(child);
}

void child_advance(struct child *child)
{
    enum child_state before = child->state;
    if (before == CHILD_FOREIGN)
        return;
    if (child->record)
        advance_with_record(child);
    else
        child_reap_guardian(child);
    if (child->state == CHILD_ORPHANED || child->state == CHILD_DYING)
        child_collect_orphan(child);
    int is_new_orphan = child->state == CHILD_ORPHANED && before != CHILD_ORPHANED;
    int is_told_by_its_pidfd = is_new_orphan && !child->is_unwatched && !fd_is_readable(child->pidfd.fd);
    if (child_is_final(child->state) || is_told_by_its_pidfd)
        list_remove(&child->asked);
    if (child->state != before)
        hub_add_news(child);
}
