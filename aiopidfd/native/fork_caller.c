/* Our side of a process without exec. libc_fork.c has the guardian's side, and the reasons. */
#define _GNU_SOURCE
#include "child.h"
#include "fork.h"
#include "lifelines.h"

#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* The stack is for the C library's fork() and for at-fork handlers of unknown libraries. It has a guard
 * page. */
enum { FORK_STACK_SIZE = 256 * 1024 };

static int prepare(struct child *child, enum clone_call call)
{
    static const char *const nothing[] = {NULL};
    /* The record's pages stay shared after the fork: the new process waits on one of the record's words. */
    struct plan plan = {
        .call = call,
        .private_memory = 1,
        .cgroup = -1,
        .kill_fd = -1,
        .paths = nothing,
        .argv = nothing,
        .envp = nothing,
    };
    int error = aiopidfd_fork_check();
    if (error < 0)
        return error;
    struct record *record = record_new(child, &plan);
    if (!record)
        return -ENOMEM;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = FORK_STACK_SIZE + page;
    char *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return -ENOMEM;
    record->fork_stack = stack;
    record->fork_stack_size = size;
    if (mprotect(stack, page, PROT_NONE) < 0)
        return -ENOMEM;
    SYS(__NR_sigaltstack, 0, &record->alternate_stack);
    return 0;
}

struct forking {
    struct child *child;
    struct failure *failure;
};

/* Waits until the guardian's phase has gone beyond `told`, or the guardian is dead. Until it has forked, the
 * guardian uses our TLS. So only raw calls may be made here, and no signal may arrive. */
static int wait_for_guardian(struct child *child, int told)
{
    static const struct timespec a_while = {.tv_nsec = 100 * 1000 * 1000};
    struct record *record = child->record;
    int alive;
    while ((alive = atomic_load(&record->alive)) != 0 && alive == told)
        if (SYS(__NR_futex, &record->alive, FUTEX_WAIT, alive, &a_while) == -ETIMEDOUT)
            child_wake_guardian(child); /* somebody may have stopped it, and no signal ends this wait */
    return alive;
}

/* Call it with the lock held; the guardian's fork() takes the lock next. From `may_fork` on, the guardian
 * uses the C library: see aiopidfd_wait_to_fork(). */
static long start_fork(void *opaque)
{
    struct forking *forking = opaque;
    struct child *child = forking->child;
    struct record *record = child->record;
    int error = start_guardian(child, forking->failure);
    spawner_unlock();
    if (error == 0) {
        atomic_store(&record->awaited, 1);
        int told = 1;
        atomic_store(&record->may_fork, 1);
        SYS(__NR_futex, &record->may_fork, FUTEX_WAKE, 1);
        wait_for_guardian(child, told);
    }
    return 0;
}

/* If the guardian was killed inside the C library's fork(), it may have held the locks of malloc and stdio,
 * or that of another library's at-fork handler. Then some thread would wait for them for ever, and nobody can
 * release them. */
static void check_locks(const struct record *record)
{
    static const char message[] = "aiopidfd: a guardian was killed inside fork(), and the C library's locks are lost "
                                  "with it: aborting\n";
    if (atomic_load(&record->forking) && atomic_load(&record->alive) == 0) {
        SYS(__NR_write, STDERR_FILENO, message, sizeof message - 1);
        abort();
    }
}

static void decide(struct record *record, int held)
{
    int waits = HELD_WAITS;
    atomic_compare_exchange_strong(&record->held, &waits, held);
    SYS(__NR_futex, &record->held, FUTEX_WAKE, INT_MAX);
}

/* The pidfd of a child that the guardian has not reaped yet, or -errno. */
static int open_forked(struct child *child)
{
    struct record *record = child->record;
    if (!record_is_numbered_elsewhere(record, child->guardian_pid))
        return (int)SYS(__NR_pidfd_open, record->child_pid, 0);
    int told = atomic_load(&record->alive);
    decide(record, HELD_ASKS);
    return told && wait_for_guardian(child, told) ? record->child_pidfd : -ECHILD;
}

/* The guardian has forked, or is dead. Returns 0 with the state RUNNING, or -errno. */
static int collect_fork(struct child *child, struct failure *failure)
{
    struct record *record = child->record;
    int phase = atomic_load(&record->phase);
    if (phase == PHASE_FAILED) {
        failure->call = refused_call(record->failed_step); /* NULL: fork() itself has failed */
        return record->error > 0 ? -record->error : -ECHILD; /* a filter may answer 0 */
    }
    if (phase != PHASE_RUNNING)
        return -ECHILD;
    int pidfd = open_forked(child);
    if (pidfd < 0)
        return pidfd;
    record->child_pidfd = pidfd;
    fds_identify(pidfd, &record->child_identity);
    /* While the guardian lived, the pid was the child's own. So the pidfd is the child's. */
    if (atomic_load(&record->alive) == 0) {
        SYS(__NR_close, pidfd);
        record->child_pidfd = -1;
        return -ECHILD;
    }
    child_collect_start(child);
    decide(record, HELD_LET_GO);
    return atomic_load(&record->held) == HELD_LET_GO ? 0 : -ECHILD; /* it saw that the guardian is dead */
}

/* There is no such child: the forked process leaves, if there is one, and so does the guardian. We do not wait for
 * the forked process, which may be in somebody's at-fork handler. A later start reaps the guardian. */
static void call_off(struct child *child)
{
    struct record *record = child->record;
    decide(record, HELD_LEAVES);
    child_wake_guardian(child);
    while (atomic_load(&record->alive) != 0 && atomic_load(&record->phase) != PHASE_RUNNING)
        wait_for_guardian(child, atomic_load(&record->alive));
    child->abandoned = 1;
    child->state = CHILD_FAILED;
    child_advance(child);
    child_after_news(child);
}

struct child *spawner_fork(enum clone_call call, struct hub *hub, struct failure *failure)
{
    uint64_t all = ~(uint64_t)0, mask = 0;
    failure->error = -ENOMEM;
    failure->call = NULL;
    SYS(__NR_rt_sigprocmask, SIG_BLOCK, &all, &mask, sizeof all);
    spawner_lock();
    spawner_check_copy();
    child_sweep();
    child_reap_guardians_before_exec();
    life_check(); /* there is no guardian here to do it */
    struct child *child = child_new(hub);
    if (child)
        failure->error = prepare(child, call);
    struct forking forking = {.child = child, .failure = failure};
    if (failure->error < 0) {
        if (child)
            child_free(child);
        child = NULL;
        spawner_unlock();
    } else if (aiopidfd_fork_point(&child->record->frame, start_fork, &forking) == 1) {
        spawner_lock(); /* in the new process; its at-fork handler has dropped all descriptors */
        child_free(child);
        spawner_unlock();
        child = NULL;
        failure->error = 0;
    } else if (failure->error < 0 && !child->guardian_pid) { /* there was no guardian */
        spawner_lock();
        child_free(child);
        spawner_unlock();
        child = NULL;
    } else {
        check_locks(child->record);
        spawner_lock();
        if (failure->error == 0)
            failure->error = collect_fork(child, failure);
        if (failure->error < 0) {
            call_off(child);
            child = NULL;
        }
        spawner_unlock();
    }
    SYS(__NR_rt_sigprocmask, SIG_SETMASK, &mask, 0, sizeof mask);
    return child;
}
