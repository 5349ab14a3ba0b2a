/* A start: everything that it needs is prepared, a guardian is made, and then the guardian may begin. */
#define _GNU_SOURCE
#include "child.h"
#include "fork.h"
#include "lifelines.h"
#include "reserved_numbers.h"

#include <limits.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

void spawner_prepare(struct failure *failure)
{
    spawner_lock();
    spawner_check_copy();
    life_get(&failure->error, &failure->call);
    spawner_unlock();
}

void start_go(struct record *record, int go)
{
    if (atomic_exchange(&record->go, go) == GO_AWAITED)
        SYS(__NR_futex, &record->go, FUTEX_WAKE, INT_MAX);
}

/* Hazards of the clone below, and where each is handled:
 *   our TLS and memory are shared          guardian.c's contract; the record outlives it (child_state.c)
 *   a signal handler runs in the guardian  all signals are blocked, the C library's internal ones too
 *   our descriptors are shared             leave_descriptor_table.c
 *   a resource cannot be got afterwards    the guardian waits to begin
 *   we die or exec                         the lifelines, stand_guard.c
 *   we fork                                become_copy() in forked_copies.c
 *   the guardian is killed                 guardian_killed_in_start.c
 */
static long clone_guardian(struct child *child)
{
    struct record *record = child->record;
    struct clone_request request = {
        .call = record->call,
        .flags = CLONE_VM | CLONE_FILES | CLONE_CLEAR_SIGHAND,
        .exit_signal = 0,
        .pidfd = &record->guardian_fd,
        .inside = (int *)&record->alive,
        .cgroup = -1, /* the guardian stays where we are */
        .stack = record->guardian_stack,
        .stack_size = record->stack_size,
    };
    if (record->fork_stack) { /* the caller has blocked all signals already */
        request.flags = CLONE_VM | CLONE_FILES; /* its child shall have our handlers */
        request.stack = record->fork_stack;
        request.stack_size = record->fork_stack_size;
        return clone_process(&request, aiopidfd_fork_guardian, record);
    }
    uint64_t all = ~(uint64_t)0;
    SYS(__NR_rt_sigprocmask, SIG_BLOCK, &all, &record->sigmask, sizeof all);
    long pid = clone_process(&request, aiopidfd_guardian, record);
    SYS(__NR_rt_sigprocmask, SIG_SETMASK, &record->sigmask, 0, sizeof all);
    return pid;
}

/* A system call in each thread, and not in each start. The C library keeps the number without malloc(3), which
 * it needs for a _Thread_local of a module. In a forked copy the number is out of date in one thread only, the
 * main one, of which the guardian asks by the process's pid as well. */
static int this_thread(void)
{
    static pthread_key_t key;
    static int has_key;
    if (!has_key)
        has_key = pthread_key_create(&key, NULL) == 0;
    intptr_t tid = has_key ? (intptr_t)pthread_getspecific(key) : 0;
    if (!tid) {
        tid = SYS(__NR_gettid);
        if (has_key)
            pthread_setspecific(key, (void *)tid);
    }
    return (int)tid;
}

int start_guardian(struct child *child, struct failure *failure)
{
    struct record *record = child->record;
    const struct life *life = life_get(&failure->error, &failure->call);
    if (!life)
        return failure->error;
    record->starter = this_thread();
    record->life_fd = life->read.fd;
    record->self_fd = life->self.fd;
    record->life = life->read.identity;
    record->life_generation = life->generation;
    record->self = life->self.identity;
    if (child->hub && !record->fork_stack) { /* for a forked process the guardian's pidfd tells everything */
        record->event_fd = child->hub->event.fd;
        record->event = child->hub->event.identity;
    }
    fds_identify(record->kill_fd, &record->kill);
    atomic_store(&record->alive, 1);
    record->guardian_fd = -1;
    long pid = clone_guardian(child);
    if (pid < 0) {
        atomic_store(&record->alive, 0);
        record->guardian_fd = -1; /* a failed clone may leave a number here that is not ours */
        failure->call = record->call == CALL_CLONE3 ? "clone3(2)" : "clone(2)";
        return failure->error = (int)pid;
    }
    child->guardian_pid = (int)pid;
    child->guardian_reaped = 0;
    child->guardian.fd = record->guardian_fd;
    record->guardian_identity.inode = 0; /* the guardian notes it, off this thread; but here, if it is to fork */
    if (record->fork_stack)
        fds_identify(record->guardian_fd, &record->guardian_identity);
    child->guardian.identity = record->guardian_identity;
    failure->error = fds_move_above_stdio(&child->guardian.fd);
    record->guardian_fd = child->guardian.fd;
    if (failure->error == 0 && child->hub && hub_watch(child, child->guardian.fd, 0, failure) < 0 &&
        child->restarted && child->hub->is_lost)
        failure->error = 0; /* a loop looks again and again at a hub that it has lost */
    return failure->error;
}

/* Whether the child will put something else at this number, perhaps before it has copied what is there now. */
static int is_a_target(const void *opaque, int number)
{
    const struct record *record = opaque;
    for (unsigned long n = 0; n < record->n_steps; n++)
        if (record->steps[n].nr == __NR_dup3 && record->steps[n].arg[1] == number)
            return 1;
    return 0;
}

/* Moves descriptors with high numbers down for the time of the start: see reserved_numbers.h. */
static void move_down(struct child *child)
{
    struct record *record = child->record;
    for (size_t i = 0; i < child->n_fds; i++) {
        int from = child->fds[i].fd;
        int to = from > LOW_ENOUGH ? reserve_take(from, is_a_target, record) : -1;
        if (to < 0)
            continue;
        for (unsigned long n = 0; n < record->n_steps; n++)
            if (record->steps[n].nr == __NR_dup3 && record->steps[n].arg[0] == from)
                record->steps[n].arg[0] = to;
        if (record->cgroup == from)
            record->cgroup = to;
        if (record->kill_fd == from)
            record->kill_fd = to;
        fds_own(&child->fds[i], to); /* `from` still belongs to the caller, see spawner_spawn() */
    }
}

static void find_highest(struct child *child, int highest)
{
    struct record *record = child->record;
    for (size_t i = 0; i < record->n_fds; i++)
        if (record->fds[i].fd > highest)
            highest = record->fds[i].fd;
    record->highest = highest > 2 ? highest : 2;
}

/* Gets everything that can be got before there is a guardian. */
static int prepare(struct child *child, const struct plan *plan)
{
    child->fds = malloc((plan->n_fds + plan->n_borrowed + 1) * sizeof *child->fds);
    if (!record_new(child, plan) || !child->fds)
        return -ENOMEM;
    for (size_t i = 0; i < plan->n_fds; i++)
        fds_own(&child->fds[i], plan->fds[i]);
    for (size_t i = 0; i < plan->n_borrowed; i++)
        fds_own(&child->fds[plan->n_fds + i], plan->borrowed[i]);
    child->n_fds = plan->n_fds;
    child->record->fds = child->fds; /* the record has them until the program is told to run */
    child->record->n_fds = plan->n_fds + plan->n_borrowed;
    move_down(child);
    find_highest(child, plan->highest);
    return 0;
}

/* Closes the originals of the descriptors that were moved down. */
static void close_moved(const struct child *child, const struct plan *plan)
{
    for (size_t i = 0; i < plan->n_fds; i++)
        if (child->fds[i].fd != plan->fds[i])
            SYS(__NR_close, plan->fds[i]);
}

/* Descriptors that were not moved stay the caller's. */
static void give_back(struct child *child, const struct plan *plan)
{
    for (size_t i = 0; i < child->n_fds; i++)
        if (child->fds[i].fd == plan->fds[i])
            child->fds[i].fd = -1;
}

struct child *spawner_spawn(const struct plan *plan, struct failure *failure)
{
    failure->error = -ENOMEM;
    failure->call = NULL;
    spawner_lock();
    spawner_check_copy();
    child_sweep();
    child_look_after_pidfds();
    child_reap_guardians_before_exec();
    struct child *child = child_new(plan->hub);
    if (!child) {
        spawner_unlock();
        return NULL;
    }
    const struct life *life = life_get(&failure->error, &failure->call); /* takes the low numbers too */
    if (life)
        failure->error = prepare(child, plan);
    if (failure->error == 0) {
        child->starts = 1;
        atomic_fetch_add(&starts_under_way, 1);
        if (child->hub) {
            child->hub->n_starting++;
            list_append(&child->hub->asked, &child->asked, child);
        }
        start_guardian(child, failure);
    }
    if (failure->error == 0) {
        close_moved(child, plan);
        start_go(child->record, GO_ON);
        spawner_unlock();
        return child;
    }
    give_back(child, plan);
    if (child->guardian_pid) {
        /* The guardian has not begun, and goes home. It only remains to reap it. */
        start_go(child->record, GO_HOME);
        child->abandoned = 1;
        child_close_handed_over(child); /* those that were moved down */
        child_end_start(child);
        child_after_news(child);
    } else {
        child_free(child);
    }
    spawner_unlock();
    return NULL;
}
