#define _GNU_SOURCE
#include "spawner.h"
#include "fds.h"
#include "fork.h"
#include "life.h"
#include "pidinfo.h"
#include "record.h"
#include "syscall.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

/* ---- One lock --------------------------------------------------------------------------------
 * It guards every struct child, the list of them and the lifelines; nothing blocks under it. All
 * signals are blocked with it: a handler that forks would otherwise meet its own thread's lock in
 * the at-fork handler. The raw call also blocks the C library's internal signals. */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct child *children;

static uint64_t lock(void)
{
    uint64_t all = ~(uint64_t)0, old = 0;
    SYS(__NR_rt_sigprocmask, SIG_BLOCK, &all, &old, sizeof all);
    pthread_mutex_lock(&mutex);
    return old;
}

static void unlock(uint64_t old)
{
    pthread_mutex_unlock(&mutex);
    SYS(__NR_rt_sigprocmask, SIG_SETMASK, &old, 0, sizeof old);
}

/* ---- Descriptors: one owner, one close ------------------------------------------------------- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        SYS(__NR_close, *fd);
    *fd = -1;
}

/* A watched descriptor leaves the set before it is closed: a duplicate would keep it in there. */
static int watch(struct child *child, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events};
    return epoll_ctl(child->watch_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void watch_anew(struct child *child, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events};
    epoll_ctl(child->watch_fd, EPOLL_CTL_MOD, fd, &event);
}

static void close_watched_fd(struct child *child, int *fd)
{
    if (child->watch_fd >= 0 && *fd >= 0)
        epoll_ctl(child->watch_fd, EPOLL_CTL_DEL, *fd, NULL);
    close_fd(fd);
}

static void close_handed_over(struct child *child)
{
    for (size_t i = 0; i < child->n_fds; i++)
        if (child->fds[i] != child->kill_fd)
            close_fd(&child->fds[i]);
    child->n_fds = 0;
}

static void close_all_but_guardian(struct child *child)
{
    close_fd(&child->watch_fd);
    close_fd(&child->ready_fd);
    close_fd(&child->kill_fd);
    close_fd(&child->pidfd);
}

static void close_fds(struct child *child)
{
    close_all_but_guardian(child);
    close_fd(&child->guardian_fd);
}

/* ---- The list -------------------------------------------------------------------------------- */

static void link_child(struct child *child)
{
    child->next = children;
    child->link = &children;
    if (children)
        children->link = &child->next;
    children = child;
}

static void unlink_child(struct child *child)
{
    *child->link = child->next;
    if (child->next)
        child->next->link = child->link;
}

/* ---- The record ------------------------------------------------------------------------------ */

/* The deepest frames of guardian.c and clone.c together stay far below this; setup.py has the
 * compiler refuse a frame of over 1 KiB there, no signal handler runs on it, nothing recurses. */
enum { STACK_SIZE = 8192, ALIGNMENT = 16 };

static size_t aligned(size_t size)
{
    return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

static size_t vector_length(const char *const *vector)
{
    size_t n = 0;
    while (vector[n])
        n++;
    return n;
}

static size_t vector_size(const char *const *vector)
{
    size_t n = vector_length(vector), size = (n + 1) * sizeof(char *);
    for (size_t i = 0; i < n; i++)
        size += strlen(vector[i]) + 1;
    return aligned(size);
}

static char *const *copy_vector(char **cursor, const char *const *vector, size_t size)
{
    char **copy = (char **)*cursor;
    size_t n = vector_length(vector);
    char *text = (char *)(copy + n + 1);
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(vector[i]) + 1;
        memcpy(text, vector[i], length);
        copy[i] = text;
        text += length;
    }
    copy[n] = NULL;
    *cursor += size;
    return copy;
}

static size_t steps_size(const struct plan *plan)
{
    size_t size = aligned(plan->n_steps * sizeof(struct step));
    for (size_t i = 0; i < plan->n_steps; i++)
        for (int a = 0; a < 5; a++)
            if (plan->steps[i].data[a])
                size += aligned(plan->steps[i].size[a]);
    return size;
}

static const struct step *copy_steps(char **cursor, const struct plan *plan)
{
    struct step *copy = (struct step *)*cursor;
    *cursor += aligned(plan->n_steps * sizeof *copy);
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *from = &plan->steps[i];
        copy[i].nr = from->nr;
        for (int a = 0; a < 5; a++) {
            copy[i].arg[a] = from->arg[a];
            if (!from->data[a])
                continue;
            memcpy(*cursor, from->data[a], from->size[a]);
            copy[i].arg[a] = (long)(intptr_t)*cursor;
            *cursor += aligned(from->size[a]);
        }
    }
    return copy;
}

static atomic_int n_records;

static struct record *record_new(const struct plan *plan)
{
    size_t header = aligned(sizeof(struct record));
    size_t paths = vector_size(plan->paths), argv = vector_size(plan->argv), envp = vector_size(plan->envp);
    size_t size = 2 * STACK_SIZE + header + steps_size(plan) + paths + argv + envp;
    /* From the heap, whose pages are mostly in place already: fresh ones would be faulted in on the
     * caller's time. A child with a memory map of its own needs pages that both maps share. */
    char *block;
    if (plan->private_memory) {
        block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED)
            return NULL;
    } else {
        block = malloc(size);
        if (!block)
            return NULL;
        memset(block + 2 * STACK_SIZE, 0, header);
    }
    struct record *record = (struct record *)(block + 2 * STACK_SIZE);
    char *cursor = (char *)record + header;
    record->size = size;
    record->call = plan->call;
    record->private_memory = plan->private_memory;
    record->contain = plan->contain;
    record->kill_fd = plan->kill_fd;
    record->cgroup = plan->cgroup;
    record->guardian_stack = block;
    record->child_stack = block + STACK_SIZE;
    record->stack_size = STACK_SIZE;
    record->n_steps = plan->n_steps;
    record->steps = copy_steps(&cursor, plan);
    record->paths = copy_vector(&cursor, plan->paths, paths);
    record->argv = copy_vector(&cursor, plan->argv, argv);
    record->envp = copy_vector(&cursor, plan->envp, envp);
    record->child_pidfd = record->stillborn_pidfd = -1;
    atomic_fetch_add(&n_records, 1);
    return record;
}

static void record_free(struct record **record)
{
    struct record *old = *record;
    *record = NULL;
    if (old)
        atomic_fetch_sub(&n_records, 1);
    if (old && old->fork_stack)
        munmap(old->fork_stack, old->fork_stack_size);
    if (old && old->private_memory)
        munmap(old->guardian_stack, old->size);
    else if (old)
        free(old->guardian_stack); /* where the block begins */
}

/* Whether there is, or was, a child, so that child_pidfd is a descriptor and not just a number. */
static int child_was_born(const struct record *record)
{
    return record->call == CALL_CLONE3 ? atomic_load(&record->born) != 0 : atomic_load(&record->claim) == CLAIM_CHILD;
}

/* The descriptor of a child that was killed at birth, or -1. A guardian that was killed between two
 * lines of its own may have left the same number in both places: then it is the child's. */
static int stillborn_pidfd(const struct record *record)
{
    int fd = record->stillborn_pidfd;
    return child_was_born(record) && fd == record->child_pidfd ? -1 : fd;
}

/* Once the guardian is past the clone. */
static void close_stillborn(struct record *record)
{
    int fd = stillborn_pidfd(record);
    record->stillborn_pidfd = -1;
    close_fd(&fd);
}

/* ---- Forked copies ---------------------------------------------------------------------------
 * A copy of us owns none of the children. */

static void before_fork(void)
{
    pthread_mutex_lock(&mutex);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&mutex);
}

static void after_fork_in_child(void)
{
    pthread_mutex_init(&mutex, NULL);
    life_drop();
    for (struct child *child = children; child; child = child->next) {
        struct record *record = child->record;
        /* A pidfd that was installed but not collected yet. The table was copied a moment before
         * the memory, so make sure that the number is a pidfd here too. */
        if (child->state == CHILD_STARTING) {
            int fds[] = {child_was_born(record) ? record->child_pidfd : -1, stillborn_pidfd(record)};
            for (int i = 0; i < 2; i++)
                if (SYS(__NR_pidfd_send_signal, fds[i], 0, 0, 0) != -EBADF)
                    SYS(__NR_close, fds[i]);
        }
        close_fds(child); /* and takes nothing out of the epoll set, which is the original's too */
        close_handed_over(child);
        child->state = CHILD_FOREIGN; /* its memory goes with its handle, or the next sweep */
    }
}

static int init_error;

static void register_at_fork(void)
{
    init_error = -pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

int spawner_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_at_fork);
    return init_error;
}

/* ---- Starting -------------------------------------------------------------------------------- */

static int start_guardian(struct child *child, uint64_t caller_mask)
{
    struct record *record = child->record;
    struct life life;
    int error = life_get(&life);
    if (error < 0)
        return error;
    record->ready_fd = child->ready_fd;
    record->life_fd = life.read_fd;
    record->self_fd = life.self_fd;
    record->sigmask = caller_mask;

    /* Hazards of the clone below, and where each is answered:
     *   our TLS and memory are shared          guardian.c's contract; the record outlives it
     *   a signal handler runs in the guardian  all signals are blocked since lock()
     *   our descriptors are shared             leave_descriptor_table() in guardian.c
     *   we die or exec                         the lifelines, guard() in guardian.c
     *   we fork                                after_fork_in_child() above
     *   the guardian is killed                 advance() below
     */
    struct clone_request request;
    request.call = record->call;
    request.flags = CLONE_VM | CLONE_FILES | CLONE_CLEAR_SIGHAND;
    request.exit_signal = 0;
    request.pidfd = &child->guardian_fd;
    request.born = NULL;
    request.cgroup = -1; /* the guardian stays where we are */
    request.stack = record->guardian_stack;
    request.stack_size = record->stack_size;
    void (*entry)(void *) = aiopidfd_guardian;
    if (record->fork_stack) {
        request.flags = CLONE_VM | CLONE_FILES; /* its child is to have our handlers */
        request.stack = record->fork_stack;
        request.stack_size = record->fork_stack_size;
        entry = aiopidfd_fork_guardian;
    }
    long pid = clone_process(&request, entry, record);
    if (pid < 0) {
        child->guardian_fd = -1; /* a failed clone may leave a number there that is not ours */
        return (int)pid;
    }
    child->guardian_pid = (int)pid;
    child->owner = getpid();
    return 0;
}

static int sweep(void);

static void child_free(struct child *child)
{
    close_fds(child);
    record_free(&child->record);
    free(child->fds);
    free(child);
}

/* All that can be had before the guardian is there; 0 or -errno. */
static int prepare(struct child *child, const struct plan *plan)
{
    child->record = record_new(plan);
    child->fds = malloc((plan->n_fds + 1) * sizeof *child->fds);
    if (!child->record || !child->fds)
        return -ENOMEM;
    child->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    if (child->watch_fd < 0)
        return -errno;
    child->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    if (child->ready_fd < 0)
        return -errno;
    int error = move_above_stdio(&child->watch_fd);
    if (error == 0)
        error = move_above_stdio(&child->ready_fd);
    return error < 0 ? error : watch(child, child->ready_fd, EPOLLIN);
}

struct child *spawner_spawn(const struct plan *plan, int *error)
{
    struct child *child = calloc(1, sizeof *child);
    if (!child) {
        *error = ENOMEM;
        return NULL;
    }
    child->guardian_fd = child->pidfd = child->ready_fd = child->kill_fd = child->watch_fd = -1;
    int result = prepare(child, plan);
    if (result == 0) {
        uint64_t mask = lock();
        sweep();
        result = start_guardian(child, mask);
        if (result == 0) {
            link_child(child);
            result = move_above_stdio(&child->guardian_fd);
            if (result == 0)
                result = watch(child, child->guardian_fd, EPOLLIN);
            if (result < 0) { /* no memory, or too many watches: it is too late to call it back */
                atomic_store(&child->record->kill_requested, 1);
                child->abandoned = 1;
                *error = -result;
                child = NULL;
            } else {
                memcpy(child->fds, plan->fds, plan->n_fds * sizeof *child->fds);
                child->n_fds = plan->n_fds;
                child->kill_fd = plan->kill_fd;
            }
            unlock(mask);
            return child;
        }
        unlock(mask);
    }
    *error = -result;
    child_free(child);
    return NULL;
}

/* ---- Collecting ------------------------------------------------------------------------------ */

static int is_final(const struct child *child)
{
    return child->state >= CHILD_EXITED;
}

/* The program's exit is known, and its guardian has stayed for the rest of the tree. */
static int has_guardian_left(const struct child *child)
{
    return child->state == CHILD_EXITED && child->record;
}

/* Nothing will ever move any more. */
static int is_over(const struct child *child)
{
    return is_final(child) && !has_guardian_left(child);
}

static int is_readable(int fd)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};
    return poll(&pollfd, 1, 0) == 1;
}

/* Reaps the guardian. __WALL because its exit signal is not SIGCHLD. ECHILD: somebody else who
 * passes __WALL reaped it, which is as good, for what it had to say is in the record. */
static int guardian_gone(const struct child *child)
{
    siginfo_t info = {.si_pid = 0};
    if (waitid(P_PIDFD, (id_t)child->guardian_fd, &info, WEXITED | WNOHANG | __WALL) < 0)
        return errno == ECHILD || is_readable(child->guardian_fd); /* a filter that came later: EPERM */
    return info.si_pid != 0;
}

/* The guardian's last act in the shared table is a write to ready_fd (the first one, as a rule), so the
 * descriptor may not be closed, and its number not be reused, before the guardian is dead, or has told
 * that it stays, which it does once. */
static int ready_was_written(const struct child *child)
{
    uint64_t count;
    return read(child->ready_fd, &count, sizeof count) == sizeof count;
}

static void collect_start(struct child *child)
{
    struct record *record = child->record;
    close_stillborn(record);
    child->pidfd = record->child_pidfd;
    move_above_stdio(&child->pidfd); /* or it stays where the kernel has put it */
    child->pid = record->child_pid;
    /* After unshare(CLONE_NEWPID) or setns() both live in another pid namespace than we do. */
    if (record->guardian_pid != child->guardian_pid)
        child->pid = pidinfo_pid(child->pidfd);
    close_handed_over(child);
    child->state = CHILD_RUNNING;
}

static int a_second_has_passed(struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (since->tv_sec == 0 && since->tv_nsec == 0)
        *since = now;
    return now.tv_sec - since->tv_sec > 1 || (now.tv_sec - since->tv_sec == 1 && now.tv_nsec >= since->tv_nsec);
}

/* The guardian was killed while it started the program: whatever there is of it shall not run on
 * unknown to the caller, who gets an error. Returns 0 while it cannot be told what there is. */
static int guardian_lost_at_start(struct child *child)
{
    struct record *record = child->record;
    close_stillborn(record);
    if (child_was_born(record)) {
        child->pidfd = record->child_pidfd;
        SYS(__NR_pidfd_send_signal, child->pidfd, SIGKILL, 0, 0);
        child->state = CHILD_DYING;
    } else if (record->call == CALL_CLONE && atomic_load(&record->cloning)) {
        /* A child may have been born that has yet to run its first instruction. It comes to that
         * within microseconds, unless the machine is so loaded that it does not within a second:
         * then it shall leave at once when it does, and its record, which it will read, stays. */
        if (!a_second_has_passed(&child->lost_since))
            return 0;
        int unclaimed = CLAIM_NONE;
        if (!atomic_compare_exchange_strong(&record->claim, &unclaimed, CLAIM_SPAWNER))
            return 0;
        child->record = NULL;
        child->state = CHILD_FAILED;
    } else {
        child->state = CHILD_FAILED;
    }
    close_handed_over(child);
    child->error = ECHILD;
    child->failed_step = FAILED_GUARDIAN;
    return 1;
}

static void collect_failure(struct child *child)
{
    struct record *record = child->record;
    close_stillborn(record);
    child->error = record->error;
    child->failed_step = record->failed_step;
    if (record->failed_step != FAILED_CLONE)
        SYS(__NR_close, record->child_pidfd);
    close_handed_over(child);
    child->state = CHILD_FAILED;
}

/* How the program ended. The guardian may still be there: then the record is, too. */
static void collect_exit(struct child *child)
{
    const struct record *record = child->record;
    child->code = record->code;
    child->status = record->status;
    child->usage = record->usage;
    child->has_usage = 1;
    child->state = CHILD_EXITED;
}

/* The program runs on without a guardian; its pidfd still tells when it exits. How it ended can be
 * had where it has become our own child (we are init or a subreaper), or as pidinfo.h says. */
static void collect_orphan(struct child *child)
{
    if (!is_readable(child->pidfd))
        return;
    siginfo_t info = {.si_pid = 0};
    int ours = waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | WNOHANG | __WALL) == 0 && info.si_pid != 0;
    if (child->state == CHILD_DYING) {
        child->state = CHILD_FAILED;
    } else if (ours) {
        child->code = info.si_code;
        child->status = info.si_status;
        child->state = CHILD_EXITED;
    } else {
        int result = pidinfo_exit(child->pidfd, child->pid, &child->code, &child->status);
        if (result == -EAGAIN) /* not reaped yet: be woken by that (a hang-up, Linux 6.15) */
            watch_anew(child, child->pidfd, 0);
        else
            child->state = result == 0 ? CHILD_EXITED : CHILD_UNKNOWN;
    }
}

/* In a copy of us that was made past the at-fork handlers (a raw clone, _Fork(3)): what it has of the
 * child is the original's, whose epoll set and whose program it must not touch. */
static int disown_in_copy(struct child *child)
{
    if (child->owner == getpid())
        return 0;
    child->state = CHILD_FOREIGN;
    return 1;
}

static void advance(struct child *child)
{
    if (disown_in_copy(child))
        return;
    if (has_guardian_left(child)) {
        if (guardian_gone(child)) {
            record_free(&child->record);
            if (child->watch_fd < 0) /* spawner_close() has come already */
                close_fd(&child->guardian_fd);
        }
        return;
    }
    if (child->state == CHILD_STARTING || child->state == CHILD_RUNNING) {
        int gone = guardian_gone(child); /* before the phase is read: then the phase is its last */
        int phase = atomic_load(&child->record->phase);
        int running = phase == PHASE_RUNNING || phase == PHASE_EXITED;
        if (child->state == CHILD_STARTING && running && (gone || ready_was_written(child)))
            collect_start(child);
        if (!gone && child->state == CHILD_RUNNING && phase == PHASE_EXITED && is_readable(child->ready_fd))
            collect_exit(child); /* left unread: whoever polls it shall find it readable */
        if (!gone)
            return;
        switch (phase) {
        case PHASE_STARTING:
            if (!guardian_lost_at_start(child))
                return; /* guardian_fd stays readable: whoever polls it comes back at once */
            break;
        case PHASE_FAILED:
            collect_failure(child);
            break;
        case PHASE_RUNNING:
            child->state = CHILD_ORPHANED;
            /* The guardian may have died just before it would have heeded the request. */
            if (atomic_load(&child->record->kill_requested))
                SYS(__NR_pidfd_send_signal, child->pidfd, SIGKILL, 0, 0);
            break;
        case PHASE_EXITED:
            collect_exit(child);
            break;
        }
        /* The guardian is dead, and the child has left our memory unless it is being killed. */
        if (child->state != CHILD_DYING)
            record_free(&child->record);
        /* The place in the epoll set that this gives back serves for the program's pidfd. */
        if (child->state == CHILD_ORPHANED || child->state == CHILD_DYING) {
            close_watched_fd(child, &child->guardian_fd);
            close_watched_fd(child, &child->ready_fd);
            watch(child, child->pidfd, EPOLLIN);
        }
    }
    if (child->state == CHILD_ORPHANED || child->state == CHILD_DYING) {
        collect_orphan(child);
        if (child->state == CHILD_FAILED)
            record_free(&child->record);
    }
}

/* ---- A process without exec ------------------------------------------------------------------
 * fork.c has the guardian's half, and the reasons. */

/* For the C library's fork() and for at-fork handlers of unknown libraries; with a guard page. */
enum { FORK_STACK_SIZE = 256 * 1024 };

static int prepare_fork(struct child *child, enum clone_call call)
{
    static const char *const nothing[] = {NULL};
    /* The record's pages are shared across the fork: the new process waits on one of its words. */
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
    if (error == 0)
        error = prepare(child, &plan);
    if (error < 0)
        return error;
    struct record *record = child->record;
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
    uint64_t mask;
    int error;
};

/* Waits until the guardian has forked, or failed, or was killed. Until then it has our TLS: nothing
 * but raw calls may be made here, and no signal may come. */
static void wait_for_guardian(const struct child *child)
{
    struct pollfd fds[2] = {{.fd = child->ready_fd, .events = POLLIN}, {.fd = child->guardian_fd, .events = POLLIN}};
    while (SYS(__NR_ppoll, fds, 2, NULL, NULL, sizeof(uint64_t)) <= 0)
        continue;
}

/* With the lock held, which the guardian's fork() takes next. From `may_fork` on the C library is the
 * guardian's: see aiopidfd_wait_to_fork(). */
static long start_fork(void *opaque)
{
    struct forking *forking = opaque;
    struct child *child = forking->child;
    forking->error = start_guardian(child, forking->mask);
    if (forking->error == 0)
        link_child(child);
    pthread_mutex_unlock(&mutex);
    if (forking->error == 0) {
        atomic_store(&child->record->may_fork, 1);
        SYS(__NR_futex, &child->record->may_fork, FUTEX_WAKE, 1);
        wait_for_guardian(child);
    }
    return 0;
}

/* As lock(), after the guardian has forked or died. If it was killed inside the C library's fork() it
 * may have taken the locks of malloc and stdio with it: then the next malloc() of any thread would
 * wait for ever, and nobody can give them back. Ours is taken before those and released after them. */
static void lock_after_fork(const struct child *child)
{
    static const char message[] = "aiopidfd: a guardian was killed inside fork(), and the C library's locks are lost "
                                  "with it: aborting\n";
    enum { TRIES = 5000, PAUSE_NS = 1000 * 1000 };
    int dead = atomic_load(&child->record->forking) && is_readable(child->guardian_fd);
    for (int i = 0; dead && i < TRIES; i++) {
        if (pthread_mutex_trylock(&mutex) == 0)
            return;
        struct timespec pause = {.tv_sec = 0, .tv_nsec = PAUSE_NS};
        nanosleep(&pause, NULL);
    }
    if (dead) {
        SYS(__NR_write, STDERR_FILENO, message, sizeof message - 1);
        abort();
    }
    pthread_mutex_lock(&mutex);
}

static void decide(struct record *record, int held)
{
    int waits = HELD_WAITS;
    atomic_compare_exchange_strong(&record->held, &waits, held);
    SYS(__NR_futex, &record->held, FUTEX_WAKE, INT_MAX);
}

/* The pidfd of a child that the guardian has not reaped yet; or -errno. */
static int open_forked(struct child *child)
{
    struct record *record = child->record;
    if (record->guardian_pid == child->guardian_pid)
        return (int)SYS(__NR_pidfd_open, record->child_pid, 0);
    decide(record, HELD_ASKS);
    wait_for_guardian(child);
    return ready_was_written(child) ? record->child_pidfd : -ECHILD;
}

/* The guardian has forked, or is dead. 0 and RUNNING, or -errno. */
static int collect_fork(struct child *child)
{
    struct record *record = child->record;
    if (!ready_was_written(child))
        return atomic_load(&record->phase) == PHASE_FAILED ? -record->error : -ECHILD;
    int pidfd = open_forked(child);
    if (pidfd < 0)
        return pidfd;
    record->child_pidfd = pidfd;
    int error = move_above_stdio(&child->guardian_fd);
    if (error == 0)
        error = watch(child, child->guardian_fd, EPOLLIN);
    /* While the guardian lived the pid was the child's own: so the pidfd is. */
    if (error == 0 && is_readable(child->guardian_fd))
        error = -ECHILD;
    if (error < 0) {
        SYS(__NR_close, pidfd);
        record->child_pidfd = -1;
        return error;
    }
    collect_start(child);
    decide(record, HELD_LET_GO);
    return atomic_load(&record->held) == HELD_LET_GO ? 0 : -ECHILD; /* it saw that the guardian is dead */
}

/* No such child: the forked process leaves, if there is one, and so does the guardian. */
static void call_off_fork(struct child *child)
{
    decide(child->record, HELD_LEAVES);
    SYS(__NR_pidfd_send_signal, child->guardian_fd, SIGCONT, 0, 0);
    while (!guardian_gone(child))
        poll(&(struct pollfd){.fd = child->guardian_fd, .events = POLLIN}, 1, -1);
    unlink_child(child);
    child_free(child);
}

struct child *spawner_fork(enum clone_call call, int *error)
{
    struct child *child = calloc(1, sizeof *child);
    if (!child) {
        *error = ENOMEM;
        return NULL;
    }
    child->guardian_fd = child->pidfd = child->ready_fd = child->kill_fd = child->watch_fd = -1;
    struct forking forking = {.child = child, .error = prepare_fork(child, call)};
    if (forking.error < 0) {
        child_free(child);
        *error = -forking.error;
        return NULL;
    }
    forking.mask = lock();
    sweep();
    if (aiopidfd_fork_point(&child->record->frame, start_fork, &forking) == 1) {
        unlink_child(child); /* in the new process, whose at-fork handler has dropped all descriptors */
        child_free(child);
        child = NULL;
    } else if (forking.error < 0) { /* no guardian, and not linked */
        child_free(child);
        child = NULL;
    } else {
        lock_after_fork(child);
        forking.error = collect_fork(child);
        if (forking.error < 0) {
            call_off_fork(child);
            child = NULL;
        }
        pthread_mutex_unlock(&mutex);
    }
    SYS(__NR_rt_sigprocmask, SIG_SETMASK, &forking.mask, 0, sizeof forking.mask);
    *error = -forking.error;
    return child;
}

/* ---- Children given up ----------------------------------------------------------------------- */

static void dispose(struct child *child)
{
    close_fds(child);
    unlink_child(child);
    child_free(child);
}

static int sweep(void)
{
    int left = 0;
    for (struct child *child = children, *next; child; child = next) {
        next = child->next;
        if (!child->abandoned && !has_guardian_left(child))
            continue;
        if (!is_over(child))
            advance(child);
        if (!child->abandoned)
            continue;
        if (is_over(child))
            dispose(child);
        else
            left++;
    }
    return left;
}

/* ---- The public half: the same under the lock ------------------------------------------------ */

enum child_state spawner_poll(struct child *child)
{
    uint64_t mask = lock();
    if (!is_over(child))
        advance(child);
    enum child_state state = child->state;
    unlock(mask);
    return state;
}

void spawner_close(struct child *child)
{
    uint64_t mask = lock();
    if (is_over(child))
        close_fds(child);
    else if (is_final(child))
        close_all_but_guardian(child); /* which is reaped by a later poll or sweep */
    unlock(mask);
}

static int is_running(const struct child *child)
{
    return child->state == CHILD_RUNNING || child->state == CHILD_ORPHANED;
}

int spawner_pidfd(struct child *child)
{
    uint64_t mask = lock();
    int fd = is_running(child) ? child->pidfd : -1;
    unlock(mask);
    return fd;
}

/* A guardian that somebody has stopped, with its group perhaps, could not tell of the end. */
static void wake_guardian(const struct child *child)
{
    if (child->guardian_fd >= 0)
        SYS(__NR_pidfd_send_signal, child->guardian_fd, SIGCONT, 0, 0);
}

int spawner_signal(struct child *child, int sig)
{
    uint64_t mask = lock();
    long result = -ESRCH;
    if (is_running(child) && !disown_in_copy(child)) {
        result = SYS(__NR_pidfd_send_signal, child->pidfd, sig, 0, 0);
        if (result == -ESRCH)
            result = 0; /* reaped a moment ago, which poll() has not told yet: still as a zombie */
        if (sig == SIGKILL)
            wake_guardian(child);
    }
    unlock(mask);
    return (int)result;
}

static void kill_program(struct child *child)
{
    if (is_final(child) || disown_in_copy(child))
        return;
    int pidfd = child->pidfd;
    if (child->state == CHILD_STARTING) {
        /* Pairs with the guardian's store of PHASE_RUNNING: one of us sees the other. A child that
         * is there already, its exec hanging perhaps, need not wait for the guardian. */
        atomic_store(&child->record->kill_requested, 1);
        pidfd = child_was_born(child->record) ? child->record->child_pidfd : -1;
    }
    if (pidfd >= 0)
        SYS(__NR_pidfd_send_signal, pidfd, SIGKILL, 0, 0);
    wake_guardian(child);
}

void spawner_kill(struct child *child)
{
    uint64_t mask = lock();
    kill_program(child);
    unlock(mask);
}

void spawner_give_up_status(struct child *child)
{
    uint64_t mask = lock();
    if (child->state == CHILD_ORPHANED)
        child->state = CHILD_UNKNOWN;
    unlock(mask);
}

static int duplicate(int fd)
{
    return (int)SYS(__NR_fcntl, fd, F_DUPFD_CLOEXEC, 3);
}

int spawner_dup_pidfd(struct child *child)
{
    uint64_t mask = lock();
    int result = -ESRCH;
    if (is_running(child) && !disown_in_copy(child))
        result = duplicate(child->pidfd);
    unlock(mask);
    return result;
}

int spawner_dup_watch(struct child *child, int fds[2])
{
    uint64_t mask = lock();
    int result = -ESRCH;
    fds[0] = fds[1] = -1;
    if (!is_final(child) && !disown_in_copy(child)) {
        int guarded = child->state == CHILD_STARTING || child->state == CHILD_RUNNING;
        result = fds[0] = duplicate(guarded ? child->guardian_fd : child->pidfd);
        if (result >= 0 && guarded)
            result = fds[1] = duplicate(child->ready_fd);
        if (result < 0)
            close_fd(&fds[0]);
    }
    unlock(mask);
    return result < 0 ? result : 0;
}

int spawner_stay(struct child *child)
{
    uint64_t mask = lock();
    int result = -ESRCH;
    if ((child->state == CHILD_RUNNING || has_guardian_left(child)) && !disown_in_copy(child)) {
        atomic_store(&child->record->stay_requested, 1);
        wake_guardian(child);
        result = duplicate(child->guardian_fd);
    }
    unlock(mask);
    return result;
}

void spawner_release(struct child *child)
{
    uint64_t mask = lock();
    if (child->state == CHILD_STARTING)
        kill_program(child); /* nobody has heard of it yet, and now nobody will */
    if (!is_over(child))
        advance(child);
    if (is_over(child))
        dispose(child);
    else
        child->abandoned = 1;
    unlock(mask);
}

int spawner_sweep(void)
{
    uint64_t mask = lock();
    int left = sweep();
    unlock(mask);
    return left;
}

int spawner_records(void)
{
    return atomic_load(&n_records);
}
