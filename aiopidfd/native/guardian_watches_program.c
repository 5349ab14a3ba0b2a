/* The guardian of a program that runs: it sleeps until the program has exited, or until its parent is gone. The
 * contract of guardian.c holds here. */
#include "after_clone.h"
#include "jail.h"
#include "guardian_kills_children.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <linux/wait.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

static int has_ended(int code)
{
    return code == CLD_EXITED || code == CLD_KILLED || code == CLD_DUMPED;
}

/* Reaps whatever has exited: the program (then *over is set and its status is in the record), and orphans of
 * the program that the kernel gave to us as their subreaper. Returns -ECHILD once no child is left. A child
 * that has asked to be traced by its parent (PTRACE_TRACEME) is also reported when it stops, whatever the
 * options (waitid(2) on a tracee). We leave such a child as it is, as other parents do. */
long aiopidfd_reap(struct record *record, int options, int *over)
{
    for (;;) {
        siginfo_t info;
        info.si_pid = 0; /* waitid does not set it when nothing has changed */
        struct rusage *usage = *over ? NULL : &record->usage;
        long result = SYS(__NR_waitid, P_ALL, 0, &info, WEXITED | __WALL | options, usage);
        if (result == -EINTR)
            continue;
        if (result < 0 || info.si_pid == 0)
            return result;
        if (info.si_pid != record->child_pid || *over || !has_ended(info.si_code))
            continue;
        record->code = info.si_code;
        record->status = info.si_status;
        *over = 1;
    }
}

/* A descriptor that becomes readable when a child exits. It is ours alone: we have left the shared table. */
static int open_sigchld(void)
{
    uint64_t mask = (uint64_t)1 << (SIGCHLD - 1);
    return (int)SYS(__NR_signalfd4, -1, &mask, SIGSET_BYTES, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int64_t now_ms(void)
{
    struct timespec now;
    now.tv_sec = now.tv_nsec = 0;
    SYS(__NR_clock_gettime, CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void aiopidfd_tell(const struct record *record)
{
    uint64_t one = 1;
    if (record->event_fd >= 0)
        SYS(__NR_write, record->event_fd, &one, sizeof one);
}

/* What a guardian can be woken by, and what it knows. */
struct guard {
    struct pollfd fds[N_FDS];
    int children_fd;
    int contain;
    int looked; /* we have slept on the program once */
    int jailed;
    int over;   /* the program is reaped */
    int told;   /* the parent has been told of that, other than by our end */
    int alone;  /* the parent is gone */
    int unsure; /* the pipe is not a lifeline any more: the host has closed our parent's end of it */
    int ending; /* everything is being killed */
    long newest; /* the highest number that the last pass over the children met */
    int births;  /* how many passes have met a higher one than the pass before, once it takes long */
    int64_t deadline;
};

enum {
    TRY_AGAIN_MS = 100,
    KILL_AGAIN_MS = 10,
    LOOK_AGAIN_MS = 1000,
    JAIL_AFTER_MS = 2,
    OUTRUN_AFTER_MS = 1000, /* on a busy machine what is killed takes a while to die, and longer in SCHED_IDLE */
    OUTRUN_AFTER_BIRTHS = 4,
    KILL_DEADLINE_MS = 5000, /* a process in uninterruptible sleep dies only when it wakes */
};

/* Opens what we wait on, and then locks us in. If memory or descriptors run out, this is tried again later.
 * But a limit of our own on descriptors stays, and so we look at the program from time to time. A
 * filter costs the kernel some 30 us of a processor, for the guardian of a program that is over by then. So
 * the program may end first, for a moment. But where a thread of the host is blocked until the exit, with no
 * pipe to read before, its processor has nothing else to do; and a guardian that sleeps at once is slower to
 * wake (benchmarks/latency.py, run.py). */
static void settle(struct guard *guard, const struct record *record)
{
    if (guard->jailed)
        return;
    if (guard->fds[CHILD].fd < 0)
        guard->fds[CHILD].fd = open_sigchld();
    if (guard->fds[CHILD].fd == -ENFILE || guard->fds[CHILD].fd == -ENOMEM)
        return;
    if (guard->contain && guard->children_fd < 0) {
        guard->children_fd = aiopidfd_children_open();
        if (guard->children_fd == -EMFILE || guard->children_fd == -ENFILE || guard->children_fd == -ENOMEM)
            return;
        if (guard->children_fd < 0) { /* this worked before the start, so /proc has changed since */
            if (!guard->over) /* if it is reaped, the pid may be another process's */
                SYS(__NR_kill, record->child_pid, SIGKILL); /* better killed than running uncontained */
            guard->contain = guard->ending = 0; /* what kills the others is not allowed once we are locked in */
        }
    }
    int is_all_that_is_awaited = atomic_load(&record->awaited) && record->n_fds == 0;
    if (guard->looked || is_all_that_is_awaited) {
        aiopidfd_jail(guard->contain);
        guard->jailed = 1;
    }
}

static void sleep_until_news(struct guard *guard)
{
    int ms = guard->ending && !guard->told ? KILL_AGAIN_MS : TRY_AGAIN_MS;
    int is_calm = guard->jailed && !guard->ending && guard->fds[CHILD].fd >= 0;
    int for_ever = is_calm && !guard->unsure;
    if (is_calm)
        ms = LOOK_AGAIN_MS;
    if (!guard->looked)
        ms = JAIL_AFTER_MS;
    guard->looked = 1;
    struct timespec wait;
    wait.tv_sec = ms / 1000;
    wait.tv_nsec = ms % 1000 * 1000000L;
    for (int i = 0; i < N_FDS; i++)
        guard->fds[i].revents = 0;
    SYS(__NR_ppoll, guard->fds, N_FDS, for_ever ? NULL : &wait, NULL, SIGSET_BYTES);
}

static void begin_to_end(struct guard *guard)
{
    if (!guard->ending)
        guard->deadline = now_ms() + KILL_DEADLINE_MS;
    guard->ending = 1;
}

/* The start was given up while it was under way. On a busy machine we may be so late that the program has
 * started others by then: they end with it. Once we are locked in, we could not kill; but by then the spawner
 * knows that the program runs, or can. */
static void end_if_unwanted(struct guard *guard, const struct record *record)
{
    if (guard->jailed || guard->ending || !atomic_load(&record->kill_requested))
        return;
    guard->contain = 1;
    begin_to_end(guard);
}

static void kill_cgroup(const struct record *record)
{
    if (record->kill_fd >= 0)
        SYS(__NR_write, record->kill_fd, "1", 1);
}

/* What only takes long to die, as on a slow disk, is not outrun: a filter of the host's may kill us at that call
 * (systemd's ~@resources), and then what it leaves would live on. */
static void kill_children(struct guard *guard, int64_t left)
{
    int takes_long = left < KILL_DEADLINE_MS - OUTRUN_AFTER_MS;
    int outrun = takes_long && guard->births >= OUTRUN_AFTER_BIRTHS;
    long newest = aiopidfd_children_kill(guard->children_fd, outrun);
    guard->births += takes_long && newest > guard->newest;
    guard->newest = newest;
}

/* A loop hears of the program's exit by the program's own pidfd, and usually finds the status here. If the
 * loop was faster than we were, it has asked to be told. One of the two always sees the other's store. If we
 * stay, our end does not tell a loop whose pidfd the host has closed. */
static void say_exited(struct record *record)
{
    enter(record, PHASE_EXITED);
    if (record->stays || atomic_load(&record->tell_requested))
        aiopidfd_tell(record);
}

/* kcmp(2), Linux 3.5, CONFIG_KCMP. 0: the task's memory is ours. More than 0: it is not, or the task is a
 * main thread that has ended. Less: kcmp cannot tell or is not allowed. */
long aiopidfd_compare_memory(const struct record *record, int task)
{
    return SYS(__NR_kcmp, record->guardian_pid, task, KCMP_VM, 0, 0);
}

static int shares_memory_with_parent(const struct record *record)
{
    return aiopidfd_compare_memory(record, record->parent_pid) == 0;
}

/* Sleeps until the program has exited, or there is nobody left to tell. The latter is so if the parent died
 * (its pidfd tells), or exec'd (the life pipe's last writer is close-on-exec, so it is gone). Then the
 * guardian leaves. It leaves at once, or, if the rest of the tree is to be killed (contain) or waited for,
 * when that is gone too. */
void aiopidfd_stand_guard(struct record *record)
{
    struct guard guard;
    guard.fds[CHILD].fd = guard.children_fd = -1;
    guard.fds[LIFE].fd = record->life_fd;
    guard.fds[SELF].fd = record->self_fd;
    for (int i = 0; i < N_FDS; i++)
        guard.fds[i].events = POLLIN;
    guard.contain = record->contain;
    /* Without a lifeline (the host had put a file of its own there: drop_stranger()) kcmp tells, if it may. */
    guard.unsure = record->life_fd < 0 && aiopidfd_compare_memory(record, record->parent_pid) >= 0;
    guard.looked = guard.jailed = guard.over = guard.told = guard.alone = guard.ending = 0;
    guard.newest = guard.births = 0;
    guard.deadline = 0;
    for (;;) {
        end_if_unwanted(&guard, record);
        settle(&guard, record);
        sleep_until_news(&guard);
        /* Taken off the queue first, so that a later exit raises the signal again. */
        char signal_info[128]; /* struct signalfd_siginfo */
        if (guard.fds[CHILD].revents)
            SYS(__NR_read, guard.fds[CHILD].fd, signal_info, sizeof signal_info);
        if (aiopidfd_reap(record, WNOHANG, &guard.over) == -ECHILD) {
            kill_cgroup(record); /* a process in the cgroup need not be our child */
            if (guard.over && !guard.told)
                say_exited(record);
            die(0);
        }
        /* A host that becomes a daemon closes the pipe, but still shares our memory. After an exec it does
         * not. */
        if (guard.fds[LIFE].revents && !guard.fds[SELF].revents && shares_memory_with_parent(record)) {
            guard.fds[LIFE].fd = -1;
            guard.fds[LIFE].revents = 0;
            guard.unsure = 1;
        }
        int parent_is_gone = guard.fds[LIFE].revents || guard.fds[SELF].revents ||
                             (guard.unsure && !shares_memory_with_parent(record));
        if (!guard.alone && parent_is_gone) {
            if (!guard.contain)
                die(0);
            guard.alone = 1;
            guard.fds[LIFE].fd = guard.fds[SELF].fd = -1;
            begin_to_end(&guard);
        }
        if (guard.over && guard.contain)
            begin_to_end(&guard);
        int64_t left = guard.ending ? guard.deadline - now_ms() : KILL_DEADLINE_MS;
        int too_long = left < 0;
        if (guard.ending) {
            kill_cgroup(record);
            kill_children(&guard, left);
        }
        if (guard.alone && too_long)
            die(0);
        if (guard.over && !guard.told && (!guard.contain || too_long)) {
            record->stays = guard.contain || atomic_load(&record->stay_requested);
            say_exited(record);
            if (!record->stays)
                die(0); /* the orphans go to the next subreaper */
            guard.told = 1;
        }
    }
}
