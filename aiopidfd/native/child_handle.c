/* What may be done with an existing child: the functions of spawner.h, each under the lock. */
#define _GNU_SOURCE
#include "child.h"

static void enter(void)
{
    spawner_lock();
    spawner_check_copy();
}

enum child_state spawner_state(struct child *child)
{
    enter();
    enum child_state state = child->state;
    spawner_unlock();
    return state;
}

uint64_t spawner_id(const struct child *child)
{
    return child->id;
}

int spawner_pid(struct child *child)
{
    return child->pid;
}

int spawner_guardian_pid(const struct child *child)
{
    return child->guardian_pid;
}

void spawner_error(struct child *child, int *error, int *failed_step, const char **call)
{
    *error = child->error;
    *failed_step = child->failed_step;
    *call = refused_call(child->failed_step);
}

int spawner_result(struct child *child, int *code, int *status, struct rusage *usage)
{
    *code = child->code;
    *status = child->status;
    *usage = child->usage;
    return child->has_usage;
}

enum child_state spawner_poll(struct child *child)
{
    enter();
    child_advance(child);
    enum child_state state = child->state;
    if (state == CHILD_RUNNING && fd_is_readable(child->pidfd.fd))
        child_wake_guardian(child); /* it may have been stopped, and would not report the exit */
    child_after_news(child);
    spawner_unlock();
    return state;
}

void spawner_close(struct child *child)
{
    enter();
    if (child_is_final(child->state))
        child_close_pidfd(&child->pidfd, child->pid);
    spawner_unlock();
}

static int is_running(const struct child *child)
{
    return child->state == CHILD_RUNNING || child->state == CHILD_ORPHANED;
}

int spawner_pidfd(struct child *child)
{
    enter();
    int fd = is_running(child) && child_pidfd_is_ours(&child->pidfd, child->pid) ? child->pidfd.fd : -1;
    spawner_unlock();
    return fd;
}

int spawner_signal(struct child *child, int sig)
{
    enter();
    long result = is_running(child) ? child_hold_program(child) : -ESRCH;
    if (result == 0) {
        result = SYS(__NR_pidfd_send_signal, child->pidfd.fd, sig, 0, 0);
        if (result == -ESRCH)
            result = 0; /* it was reaped a moment ago, and poll() has not told yet: treat it like a zombie */
        if (sig == SIGKILL)
            child_wake_guardian(child);
    }
    spawner_unlock();
    return (int)result;
}

static void kill_program(struct child *child)
{
    if (child_is_final(child->state))
        return;
    struct record *record = child->record;
    int fd = -1;
    if (child->state == CHILD_STARTING) {
        /* Pairs with the guardian's store of PHASE_RUNNING: one of us sees the other. If there is a child
         * already, it is killed without waiting for the guardian, because its exec may hang. */
        atomic_store(&record->kill_requested, 1);
        if (child_was_born(record) && child_born_is_ours(record, child->guardian_pid, record->child_pidfd))
            fd = record->child_pidfd;
    } else if (child_hold_program(child) == 0) {
        fd = child->pidfd.fd;
    }
    if (fd >= 0)
        SYS(__NR_pidfd_send_signal, fd, SIGKILL, 0, 0);
    child_wake_guardian(child);
}

void spawner_kill(struct child *child)
{
    enter();
    kill_program(child);
    spawner_unlock();
}

void spawner_give_up_status(struct child *child)
{
    enter();
    if (child->state == CHILD_ORPHANED)
        child->state = CHILD_UNKNOWN;
    spawner_unlock();
}

int spawner_dup_pidfd(struct child *child)
{
    enter();
    int result = -ESRCH;
    if (is_running(child))
        result = child_hold_program(child);
    if (result == 0)
        result = fds_duplicate(child->pidfd.fd);
    spawner_unlock();
    return result;
}

void spawner_wake(struct child *child)
{
    enter();
    child_wake_guardian(child);
    spawner_unlock();
}

int spawner_stay(struct child *child)
{
    enter();
    int result = -ESRCH;
    struct record *record = child->record;
    int guarded = record && (child->state == CHILD_RUNNING || (child->state == CHILD_EXITED && record->stays));
    if (guarded && atomic_load(&record->alive) != 0) {
        atomic_store(&record->stay_requested, 1);
        if (child->hub)
            list_append(&child->hub->asked, &child->asked, child); /* it writes to the eventfd at the exit, too */
        child_wake_guardian(child);
        result = child_hold_guardian(child);
        if (result == 0)
            result = fds_duplicate(child->guardian.fd);
    }
    spawner_unlock();
    return result;
}

void spawner_release(struct child *child)
{
    enter();
    if (child->state == CHILD_STARTING)
        kill_program(child); /* nobody has heard of the program yet, and now nobody will */
    child->abandoned = 1;
    child_advance(child);
    child_after_news(child);
    spawner_unlock();
}
