/* The clone that makes a guardian: a process that shares our memory, and whose exit signal is none. */
#define _GNU_SOURCE
#include "child.h"
#include "fork.h"
#include "lifelines.h"

#include <linux/sched.h>
#include <pthread.h>

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

/* Hazards of the clone below, and where each is handled:
 *   our TLS and memory are shared          guardian.c's contract; the record outlives it (child_state.c)
 *   a signal handler runs in the guardian  all signals are blocked, the C library's internal ones too
 *   our descriptors are shared             leave_descriptor_table.c
 *   a resource cannot be got afterwards    the guardian waits to begin
 *   we die or exec                         the lifelines, guardian_watches_program.c
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

static pthread_key_t key;
static int has_key;

/* In a forked copy this thread has another number, and in one that was made past the C library it may be any
 * thread that comes here first. A new key has no number in any of them. */
void start_forget_threads(void)
{
    if (has_key)
        pthread_key_delete(key);
    has_key = 0;
}

/* A system call in each thread, and not in each start. The C library keeps the number without malloc(3), which
 * it needs for a _Thread_local of a module. */
static int this_thread(void)
{
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
