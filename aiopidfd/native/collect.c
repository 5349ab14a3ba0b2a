/* What has become of a child. The states are drawn in spawner.h. */
#define _GNU_SOURCE
#include "spawned.h"
#include "life.h"
#include "pidinfo.h"
#include "tree.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>

/* Whether there is, or was, a child, so that child_pidfd is a descriptor and not just a number. */
int child_was_born(const struct record *record)
{
    return record->call == CALL_CLONE3 ? atomic_load(&record->born) != 0 : atomic_load(&record->claim) == CLAIM_CHILD;
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
    if (record->call != CALL_CLONE3 || record->guardian_pid != guardian_pid)
        return 1; /* we do not know its pid */
    int pid = pidinfo_pid(fd);
    return pid == 0 || pid == atomic_load(&record->born);
}

/* The descriptor of a child that was killed at birth, or -1. A guardian that was killed between two of its
 * statements may have left the same number in both places. Then the number is that of the living child. */
int child_stillborn_pidfd(const struct record *record)
{
    int fd = record->stillborn_pidfd;
    return child_was_born(record) && fd == record->child_pidfd ? -1 : fd;
}

/* Call it once the guardian is past the clone. */
static void close_stillborn(struct record *record)
{
    struct owned pidfd = {.fd = child_stillborn_pidfd(record)};
    record->stillborn_pidfd = -1;
    child_close_pidfd(&pidfd, 0);
}

/* Whether the guardian is a zombie, or about to be one, where it cannot be reaped. A closed number would be
 * "readable" too, and so may be a file of the host's. */
static int guardian_has_ended(const struct child *child)
{
    if (!child->record || atomic_load(&child->record->alive) == 0)
        return 1;
    return child_pidfd_is_ours(&child->guardian, child->guardian_pid) && child_is_readable(child->guardian.fd);
}

/* Reaps the guardian by its pid, because a pid cannot be changed by anybody, unlike a descriptor. Looks only
 * among children that send no SIGCHLD (__WCLONE), so that it cannot hit an ordinary child of the host.
 * ECHILD: somebody else who passes __WALL has reaped the guardian. That does no harm, because all that the
 * guardian had to say is in the record. */
void child_reap_guardian(struct child *child)
{
    if (child->guardian_reaped || !child->guardian_pid)
        return;
    siginfo_t info = {.si_pid = 0};
    long result = SYS(__NR_waitid, P_PID, child->guardian_pid, &info, WEXITED | WNOHANG | __WCLONE, NULL);
    if (result == -ECHILD || (result == 0 && info.si_pid != 0))
        child->guardian_reaped = 1;
    else if (result < 0 && result != -EINTR) /* the host has since installed a filter */
        child->guardian_reaped = guardian_has_ended(child);
    if (!child->guardian_reaped)
        return;
    if (child->record)
        child->guardian.identity = child->record->guardian_identity;
    child_close_pidfd(&child->guardian, child->guardian_pid);
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

/* Whether the guardian can never touch our memory again. The kernel says so in `alive`, whatever killed the
 * guardian. The exception is a guardian that dumps core before Linux 5.16: then we know it when the guardian
 * is reaped. */
static int has_left_memory(const struct child *child)
{
    return atomic_load(&child->record->alive) == 0 || child->guardian_reaped;
}

void child_collect_start(struct child *child)
{
    struct record *record = child->record;
    close_stillborn(record);
    child->pidfd.fd = record->child_pidfd;
    child->pidfd.identity = record->child_identity;
    child->guardian.identity = record->guardian_identity;
    fds_move_above_stdio(&child->pidfd.fd); /* if that fails, it stays where the kernel has put it */
    child->pid = record->child_pid;
    /* After unshare(CLONE_NEWPID) or setns() the guardian and the program are in another pid namespace than
     * we. */
    if (record->guardian_pid != child->guardian_pid)
        child->pid = pidinfo_pid(child->pidfd.fd);
    child_close_handed_over(child);
    record_free_child_block(child);
    child->state = CHILD_RUNNING;
    child_end_start(child);
    hub_watch_program(child);
}

static int a_second_has_passed(struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (since->tv_sec == 0 && since->tv_nsec == 0)
        *since = now;
    return now.tv_sec - since->tv_sec > 1 || (now.tv_sec - since->tv_sec == 1 && now.tv_nsec >= since->tv_nsec);
}

static void fail(struct child *child, int error, int failed_step)
{
    child->error = error;
    child->failed_step = failed_step;
    child->state = CHILD_FAILED;
}

/* The guardian was killed while it started the program. The caller gets an error, so no child may run on
 * without the caller knowing it. Nothing is done until we can tell whether there is a child. */
static void collect_lost_start(struct child *child)
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
        fail(child, ECHILD, FAILED_GUARDIAN);
    } else {
        fail(child, ECHILD, FAILED_GUARDIAN);
    }
    close_stillborn(record);
    child_close_handed_over(child);
    child_end_start(child);
    if (child->pidfd.fd >= 0)
        hub_watch_program(child);
    child->error = ECHILD;
    child->failed_step = FAILED_GUARDIAN;
}

static void collect_failure(struct child *child)
{
    struct record *record = child->record;
    close_stillborn(record);
    if (child_was_born(record) && child_born_is_ours(record, child->guardian_pid, record->child_pidfd))
        SYS(__NR_close, record->child_pidfd);
    child_close_handed_over(child);
    fail(child, record->error, record->failed_step);
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

/* The program runs on without a guardian. Its pidfd still tells when it exits. We can learn how it ended if
 * it has become our own child (we are init or a subreaper), or in the way that pidinfo.h describes. */
static void collect_orphan(struct child *child)
{
    if (child_hold_program(child) < 0) { /* the pidfd was closed behind our back: we learn nothing more */
        child->state = child->state == CHILD_DYING ? CHILD_FAILED : CHILD_UNKNOWN;
        return;
    }
    int fd = child->pidfd.fd;
    if (!child_is_readable(fd))
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

/* For a child that has, or had, a guardian. The phase is read after `alive`: if `alive` is 0, the phase is
 * the last one. */
static void advance_with_record(struct child *child)
{
    struct record *record = child->record;
    int left = has_left_memory(child);
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
            collect_lost_start(child);
    }
    if (child->state == CHILD_RUNNING && phase == PHASE_EXITED) {
        collect_exit(child);
    } else if (child->state == CHILD_RUNNING && left) {
        child->state = CHILD_ORPHANED;
        /* The guardian may have died just before it could obey the request. */
        if (atomic_load(&record->kill_requested) && child_hold_program(child) == 0)
            SYS(__NR_pidfd_send_signal, child->pidfd.fd, SIGKILL, 0, 0);
    }
    int child_is_inside = child_was_born(record) && atomic_load(&record->inside);
    /* The guardian had left before the phase was read, so the phase was its last. We check again that no new
     * guardian has taken its place meanwhile: see start_again(). */
    if (left && child->record && has_left_memory(child) && !child_is_inside && !child->n_blocked && child->state != CHILD_STARTING)
        record_free(child);
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
        collect_orphan(child);
    if (child_is_final(child->state))
        list_remove(&child->asked);
    if (child->state != before)
        hub_add_news(child);
}
