/* What runs after the clone: the guardian, until the start is told. Then it stands guard
 * (guardian_watches_program.c). Its child, until exec, is in before_exec.c.
 *
 * The guardian is a process that shares our memory and, at first, our descriptor table. It never execs, so
 * its exit signal stays 0 and nothing in our process can see it. (execve(2) would reset the exit signal to
 * SIGCHLD. That is why the program is the guardian's child and not ours.)
 *
 * The contract of these files:
 *
 *   - No libc, no errno, no TLS, no allocation, no stack protector, no lazily bound symbol: only
 *     raw system calls. We share the spawning thread's TLS, and that thread runs on or may be gone.
 *     CI checks that all of them together need no outside symbol.
 *   - Touch nothing but the record. The spawner keeps it mapped until we cannot run any more.
 *   - No signal handler of the host ever runs here. Every signal is blocked when we start, and stays
 *     blocked in the guardian. The child unblocks signals only after all handlers were reset.
 *   - A descriptor in the shared table belongs to the spawner: we never open or close one there. The
 *     guardian has a table of its own before it reports the start. The child has its own table from its
 *     first call on, with only what it needs. So neither holds anything of the host's open.
 */
#include "after_clone.h"
#include "fd_identity.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

/* At the number in the host's table there may be a file of the host's by now. Our child is not reaped, so its
 * pid is its own still, as ours is. Our table is our own by now. */
static void note_identity(int pid, struct identity *identity)
{
    int own = (int)SYS(__NR_pidfd_open, pid, 0);
    if (own < 0)
        return; /* the pid has to do */
    fds_identify(own, identity);
    SYS(__NR_close, own);
}

/* The end of our pidfd tells of the failure. But the host may have closed that, so the hub is told as well. In the
 * table that we share our numbers may be files of the host's. */
void aiopidfd_guardian_fails(struct record *record, int step, long result)
{
    SYS(__NR_prctl, PR_SET_NAME, "aiopidfd-guard"); /* by this we are reaped if our parent execs now */
    record->failed_step = step;
    record->error = (int)-result;
    int is_apart = aiopidfd_leave_table(record) == 0;
    if (is_apart)
        note_identity(record->guardian_pid, &record->guardian_identity);
    enter(record, PHASE_FAILED);
    if (is_apart)
        aiopidfd_tell(record);
    die(1);
}

/* SIGCHLD must be at its default, or the kernel would reap the child for us and drop its status. clone3 has
 * reset every handler already (CLONE_CLEAR_SIGHAND). clone(2) cannot, so it is done here. Ignored signals
 * stay ignored, as exec would leave them. */
static void reset_signal_handlers(struct record *record)
{
    struct kernel_sigaction reset, old;
    reset.handler = SIG_DFL;
    reset.flags = 0;
    reset.restorer = 0;
    reset.mask = 0;
    SYS(__NR_rt_sigaction, SIGCHLD, &reset, &old, SIGSET_BYTES);
    record->sigchld_ignored = old.handler == SIG_IGN;
    if (record->call == CALL_CLONE3)
        return;
    for (int sig = 1; sig <= KERNEL_NSIG; sig++) {
        if (SYS(__NR_rt_sigaction, sig, 0, &old, SIGSET_BYTES) < 0)
            continue;
        if (old.handler != SIG_DFL && old.handler != SIG_IGN)
            SYS(__NR_rt_sigaction, sig, &reset, 0, SIGSET_BYTES);
    }
}

/* Returns when the child has exec'd or is gone (CLONE_VFORK). The child uses our record until then. */
static long clone_child(struct record *record)
{
    struct clone_request request;
    request.call = record->call;
    request.flags = CLONE_VFORK;
    if (!record->private_memory)
        request.flags |= CLONE_VM;
    if (!record->private_table)
        request.flags |= CLONE_FILES;
    request.exit_signal = SIGCHLD;
    request.pidfd = &record->child_pidfd;
    request.born = (int *)&record->born;
    request.inside = NULL;
    if (!record->private_memory) {
        atomic_store(&record->inside, 1);
        request.inside = (int *)&record->inside;
    }
    request.cgroup = record->enter_cgroup ? -1 : record->cgroup;
    request.stack = record->child_stack;
    request.stack_size = record->stack_size;
    return clone_process(&request, aiopidfd_before_exec, record);
}

/* A child that is born into a cgroup is killed at birth if our own cgroup and that one have not been killed
 * (cgroup.kill) equally often. The kernel compares the two counts to find a kill that came during the clone
 * (kernel/cgroup/cgroup.c, cgroup_css_set_fork(); Linux 5.14 to 6.18 at least). A child that has not run its
 * first instruction has done nothing. So we clone once more, and the new child enters the cgroup by
 * itself. */
static long start_child(struct record *record)
{
    record->enter_cgroup = record->cgroup >= 0 && record->call != CALL_CLONE3;
    long pid = clone_child(record);
    if (pid < 0 || record->cgroup < 0 || record->enter_cgroup || atomic_load(&record->claim) != CLAIM_NONE)
        return pid;
    record->stillborn_pidfd = record->child_pidfd; /* before `born` is cleared: see guardian_killed_in_start.c */
    atomic_store(&record->born, 0);
    if (atomic_load(&record->kill_requested)) { /* that kill is why the child died */
        atomic_store(&record->born, (int)pid);
        return pid;
    }
    SYS(__NR_waitid, P_PID, pid, NULL, WEXITED | __WALL, NULL);
    record->enter_cgroup = 1;
    return clone_child(record);
}

/* An exec may hang in the kernel, on a dead NFS server for example. Until it is through we share the host's table
 * and can look at nothing, so the host's death is ours too, or its ports and locks would be held. The kernel means
 * the death of the thread that has started us: a thread that blocks until the exec does not end before the host,
 * nor does the main thread, but a loop in another thread may go on in a third one. And a guardian that contains
 * must live to kill. */
static long start_child_of_a_living_host(struct record *record)
{
    if (!record->contain && (record->starter == record->parent_pid || record->event_fd < 0)) {
        SYS(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
        if (SYS(__NR_getppid) != record->parent_pid)
            die(1); /* it has died before; nobody is left to tell */
    }
    long pid = start_child(record);
    SYS(__NR_prctl, PR_SET_PDEATHSIG, SIGCONT);
    return pid;
}

/* Whether the parent is gone while we still share its descriptor table. That table holds the life pipe's
 * writer, so after an exec of another thread of the parent's the pipe would never tell. Where kcmp is not
 * allowed we know of a death only. */
static int we_are_alone(const struct record *record)
{
    if (aiopidfd_compare_memory(record, record->parent_pid) > 0 && aiopidfd_compare_memory(record, record->starter) != 0)
        return 1;
    struct pollfd lifelines[2];
    lifelines[0].fd = record->life_fd;
    lifelines[1].fd = record->self_fd;
    for (int i = 0; i < 2; i++) {
        lifelines[i].events = POLLIN;
        lifelines[i].revents = 0;
    }
    struct timespec none;
    none.tv_sec = 0;
    none.tv_nsec = 0;
    return SYS(__NR_ppoll, lifelines, 2, &none, NULL, SIGSET_BYTES) > 0;
}

/* Waits until the word has changed, but only for a limited time: the thread that should change it may be
 * gone. */
static void wait_on(atomic_int *word, int value)
{
    enum { LOOK_AGAIN_NS = 100 * 1000 * 1000 };
    struct timespec wait;
    wait.tv_sec = 0;
    wait.tv_nsec = LOOK_AGAIN_NS;
    SYS(__NR_futex, word, FUTEX_WAIT, value, &wait);
}

/* Nothing may run before the spawner has all that it needs. So if a start raises, nothing has run. */
static void wait_to_begin(struct record *record)
{
    for (;;) {
        int go = GO_NOT_YET;
        if (!atomic_compare_exchange_strong(&record->go, &go, GO_AWAITED) && go != GO_AWAITED) {
            if (go == GO_HOME)
                die(0);
            return;
        }
        wait_on(&record->go, GO_AWAITED);
        if (atomic_load(&record->go) == GO_AWAITED && we_are_alone(record)) /* or seem so: see aiopidfd_check_calls() */
            aiopidfd_guardian_fails(record, FAILED_LIFELINES, -EBADF);
    }
}

/* The program runs already, but the start is not reported yet. The program cannot be called back. */
static void leave_table_at_last(struct record *record)
{
    enum { TRIES = 100, PAUSE_MS = 10 };
    long result = aiopidfd_leave_table(record);
    for (int i = 0; i < TRIES && result < 0; i++) {
        sleep_ms(PAUSE_MS);
        result = aiopidfd_leave_table(record);
    }
    if (result == 0)
        return;
    SYS(__NR_kill, record->child_pid, SIGKILL);
    SYS(__NR_waitid, P_PID, record->child_pid, NULL, WEXITED | __WALL, NULL); /* not what it has started */
    aiopidfd_guardian_fails(record, FAILED_TABLE, result);
}

void aiopidfd_guardian(void *opaque)
{
    struct record *record = opaque;

    record->guardian_pid = (int)SYS(__NR_getpid);
    record->parent_pid = (int)SYS(__NR_getppid);
    SYS(__NR_prctl, PR_SET_NAME, "aiopidfd-guard"); /* first: see aiopidfd_guardian_fails() */
    SYS(__NR_prctl, PR_SET_PDEATHSIG, SIGCONT);     /* somebody may have stopped us when our parent dies */
    wait_to_begin(record);
    long subreaper = SYS(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1); /* the program's orphans come to us */
    reset_signal_handlers(record);
    aiopidfd_check_calls(record);
    if (record->contain)
        aiopidfd_check_that_we_can_contain(record, subreaper);

    atomic_store(&record->cloning, 1);
    long pid = start_child_of_a_living_host(record);
    if (pid < 0)
        aiopidfd_guardian_fails(record, FAILED_CLONE, pid);
    record->child_pid = (int)pid;
    if (record->error) {
        int over = 0;
        if (aiopidfd_leave_table(record) == 0)
            note_identity(record->child_pid, &record->child_identity);
        aiopidfd_reap(record, 0, &over);
        aiopidfd_guardian_fails(record, record->failed_step, -record->error);
    }

    leave_table_at_last(record);
    note_identity(record->child_pid, &record->child_identity);
    note_identity(record->guardian_pid, &record->guardian_identity);
    SYS(__NR_chdir, "/"); /* so that the directory that we were started in can be unmounted */
    /* Pairs with spawner_kill(): whichever store comes second, its side sees the other. So a kill is never
     * lost. */
    enter(record, PHASE_RUNNING);
    if (atomic_load(&record->kill_requested))
        SYS(__NR_kill, pid, SIGKILL);
    aiopidfd_tell(record);
    aiopidfd_stand_guard(record);
}

/* ---- The guardian of a forked process (libc_fork.c) ---------------------------------------- */

/* The caller's thread and the guardian are never in the C library at the same time. In a process with one
 * thread the C library takes no real locks: it releases a mutex by a plain store, which wakes nobody. */
void aiopidfd_wait_to_fork(struct record *record)
{
    while (!atomic_load(&record->may_fork)) {
        wait_on(&record->may_fork, 0);
        if (we_are_alone(record) || atomic_load(&record->held) == HELD_LEAVES) {
            SYS(__NR_prctl, PR_SET_NAME, "aiopidfd-guard");
            die(0);
        }
    }
}

/* The spawner opens the pidfd itself, because a guardian that is killed while it does so would leave a
 * descriptor that nobody knows. Until the spawner has done so, the child is not reaped, so its pid stays its
 * own. There is one exception: if the guardian lives in another pid namespace, our number for the child says
 * nothing to the spawner. Only then the spawner asks the guardian to open the pidfd, in the table that both
 * share. */
static void wait_until_child_is_let_go(struct record *record)
{
    for (;;) {
        int held = atomic_load(&record->held);
        if (held == HELD_LET_GO || held == HELD_LEAVES)
            return;
        if (held == HELD_ASKS) {
            record->child_pidfd = (int)SYS(__NR_pidfd_open, record->child_pid, 0);
            atomic_compare_exchange_strong(&record->held, &held, HELD_WAITS);
            enter(record, PHASE_RUNNING);
            continue;
        }
        wait_on(&record->held, held);
        if (we_are_alone(record))
            die(0);
    }
}

void aiopidfd_forked(struct record *record, long pid)
{
    SYS(__NR_prctl, PR_SET_NAME, "aiopidfd-guard");
    SYS(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1);
    if (pid < 0)
        aiopidfd_guardian_fails(record, FAILED_CLONE, pid);
    record->child_pid = (int)pid;
    enter(record, PHASE_RUNNING); /* from here on the caller may continue, and its TLS may be gone */
    wait_until_child_is_let_go(record);
    enum { PAUSE_MS = 100 };
    while (aiopidfd_leave_table(record) < 0)
        sleep_ms(PAUSE_MS);
    SYS(__NR_chdir, "/");
    aiopidfd_stand_guard(record);
}
