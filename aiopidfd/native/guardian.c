/* What runs after the clone: the guardian, and its child until exec.
 *
 * The guardian is a process that shares our memory and, at first, our descriptor table. It never
 * execs, so its exit signal stays 0 and nothing in our process can see it (execve(2) would reset
 * the exit signal to SIGCHLD: that is why the program is the guardian's child and not ours).
 *
 * The contract of this file:
 *
 *   - No libc, no errno, no TLS, no allocation, no stack protector, no lazily bound symbol: only
 *     raw system calls. We share the spawning thread's TLS, and that thread runs on or may be gone.
 *     CI checks that the compiled file needs no outside symbol but clone_process and aiopidfd_jail.
 *   - Touch nothing but the record. The spawner keeps it mapped until we cannot run any more.
 *   - No signal handler of the host program ever runs here: every signal is blocked when we start
 *     and stays blocked in the guardian; the child unblocks only after all handlers were reset.
 *   - A descriptor in the shared table belongs to the spawner: we never close one there.
 */
#include "jail.h"
#include "record.h"
#include "syscall.h"

#include <errno.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <linux/wait.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

enum { KERNEL_NSIG = 64, SIGSET_BYTES = 8 };

/* The kernel's own layout (asm-generic and x86-64; the restorer is only used by handlers). */
struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static __attribute__((noreturn)) void die(int status)
{
    for (;;)
        SYS(__NR_exit_group, status);
}

/* ---- The child, from its birth to exec ------------------------------------------------------ */

static __attribute__((noreturn)) void child_fails(struct record *record, int step, long result)
{
    record->failed_step = step;
    record->error = (int)-result;
    die(127);
}

static void child_main(void *opaque)
{
    struct record *record = opaque;

    int unclaimed = CLAIM_NONE;
    if (!atomic_compare_exchange_strong(&record->claim, &unclaimed, CLAIM_CHILD))
        die(127); /* the guardian was killed and the spawner has given us up */

    if (record->sigchld_ignored) {
        /* The guardian needs SIGCHLD at its default; the program inherits what the caller had. */
        struct kernel_sigaction ignore;
        ignore.handler = SIG_IGN;
        ignore.flags = 0;
        ignore.restorer = 0;
        ignore.mask = 0;
        SYS(__NR_rt_sigaction, SIGCHLD, &ignore, 0, SIGSET_BYTES);
    }

    long opened = -EBADF;
    for (unsigned long i = 0; i < record->n_steps; i++) {
        const struct step *step = &record->steps[i];
        long first = step->arg[0] == STEP_OPENED ? opened : step->arg[0];
        long result = SYS(step->nr, first, step->arg[1], step->arg[2], step->arg[3], step->arg[4]);
        if (result < 0)
            child_fails(record, (int)i, result);
        if (step->nr == __NR_openat)
            opened = result;
    }

    /* The guardian was killed: nobody will reap us, and a PR_SET_PDEATHSIG came too late to tell. */
    if (SYS(__NR_getppid) != record->guardian_pid)
        die(127);

    SYS(__NR_rt_sigprocmask, SIG_SETMASK, &record->sigmask, 0, SIGSET_BYTES);

    /* Like CPython: the first failure that says more than "not here", else the last one. */
    long telling = 0, last = -ENOENT;
    for (char *const *path = record->paths; *path; path++) {
        last = SYS(__NR_execve, *path, record->argv, record->envp);
        if (!telling && last != -ENOENT && last != -ENOTDIR)
            telling = last;
    }
    child_fails(record, FAILED_EXEC, telling ? telling : last);
}

/* ---- The guardian --------------------------------------------------------------------------- */

static __attribute__((noreturn)) void guardian_fails(struct record *record, int step, long result)
{
    record->failed_step = step;
    record->error = (int)-result;
    atomic_store(&record->phase, PHASE_FAILED);
    die(1);
}

/* SIGCHLD must be at its default, or the kernel would reap the child for us and drop its status.
 * clone3 reset every handler already (CLONE_CLEAR_SIGHAND); clone(2) cannot, so it is done here.
 * Ignored signals stay ignored, as exec would leave them. */
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

/* Returns once the child has exec'd or is gone (CLONE_VFORK): it uses our record until then. */
static long start_child(struct record *record)
{
    struct clone_request request;
    request.call = record->call;
    request.flags = CLONE_VFORK;
    if (!record->private_memory)
        request.flags |= CLONE_VM;
    request.exit_signal = SIGCHLD;
    request.pidfd = &record->child_pidfd;
    request.born = (int *)&record->born;
    request.stack = record->child_stack;
    request.stack_size = record->stack_size;
    return clone_process(&request, child_main, record);
}

/* Leave the descriptor table that we share with our parent, with only the lifelines: else we would
 * keep a pipe's writer or a listening socket of its alive. Unsharing copies no more of the table
 * than what lies below the first closed range (close_range(2), Linux 5.9). Returns 0 where memory is
 * out: then the table is still the parent's, and nothing in it is ours to close. */
static int leave_descriptor_table(const struct record *record)
{
    int low = record->life_fd, high = record->self_fd;
    if (low > high) {
        low = record->self_fd;
        high = record->life_fd;
    }
    if (SYS(__NR_close_range, high + 1, ~0U, CLOSE_RANGE_UNSHARE) < 0)
        return 0;
    if (low > 0)
        SYS(__NR_close_range, 0, low - 1, 0);
    if (high > low + 1)
        SYS(__NR_close_range, low + 1, high - 1, 0);
    return 1;
}

/* Reaps the child, and whatever orphan of its the kernel gave to us as their subreaper.
 * Returns 1 once the child itself is reaped, its status in the record. */
static int reap(struct record *record, int options)
{
    for (;;) {
        siginfo_t info;
        info.si_pid = 0; /* waitid leaves it alone when nothing has changed */
        long result = SYS(__NR_waitid, P_ALL, 0, &info, WEXITED | __WALL | options, &record->usage);
        if (result < 0 || info.si_pid == 0)
            return 0;
        if (info.si_pid != record->child_pid)
            continue;
        record->code = info.si_code;
        record->status = info.si_status;
        return 1;
    }
}

/* A descriptor that becomes readable when a child exits. Ours alone: we have left the table. */
static int open_sigchld(void)
{
    uint64_t mask = (uint64_t)1 << (SIGCHLD - 1);
    return (int)SYS(__NR_signalfd4, -1, &mask, SIGSET_BYTES, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Sleeps until the child has exited, or we have no one to tell: the parent died (its pidfd), or
 * exec'd (the life pipe's last writer is gone: it is close-on-exec). */
static __attribute__((noreturn)) void guard(struct record *record)
{
    enum { CHILD, LIFE, SELF };
    enum { TRY_AGAIN_NS = 100 * 1000 * 1000 };
    struct pollfd fds[3];
    fds[CHILD].fd = -1;
    fds[LIFE].fd = record->life_fd;
    fds[SELF].fd = record->self_fd;
    for (int i = 0; i < 3; i++)
        fds[i].events = POLLIN;
    int left = 0;
    for (;;) {
        if (!left && (left = leave_descriptor_table(record))) {
            fds[CHILD].fd = open_sigchld();
            aiopidfd_jail();
        }
        /* Where memory was out, neither can be had for now: look every now and then. */
        struct timespec wait;
        wait.tv_sec = 0;
        wait.tv_nsec = TRY_AGAIN_NS;
        for (int i = 0; i < 3; i++)
            fds[i].revents = 0;
        SYS(__NR_ppoll, fds, 3, fds[CHILD].fd < 0 ? &wait : NULL, NULL, SIGSET_BYTES);
        if (fds[CHILD].revents || fds[CHILD].fd < 0) {
            char signal_info[128]; /* struct signalfd_siginfo: only taken off the queue, and first: */
            SYS(__NR_read, fds[CHILD].fd, signal_info, sizeof signal_info);
            if (reap(record, WNOHANG)) { /* ... a later exit then raises the signal anew */
                atomic_store(&record->phase, PHASE_EXITED);
                die(0);
            }
        }
        if (fds[LIFE].revents || fds[SELF].revents)
            die(0);
    }
}

void aiopidfd_guardian(void *opaque)
{
    struct record *record = opaque;

    record->guardian_pid = (int)SYS(__NR_getpid);
    SYS(__NR_prctl, PR_SET_NAME, "aiopidfd-guard");
    SYS(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1); /* the program's orphans come to us */
    reset_signal_handlers(record);

    atomic_store(&record->cloning, 1);
    long pid = start_child(record);
    if (pid < 0)
        guardian_fails(record, FAILED_CLONE, pid);
    record->child_pid = (int)pid;
    if (record->error) {
        reap(record, 0);
        guardian_fails(record, record->failed_step, -record->error);
    }

    /* Pairs with spawner_kill(): whichever comes second sees the other, so a kill is never lost. */
    atomic_store(&record->phase, PHASE_RUNNING);
    if (atomic_load(&record->kill_requested))
        SYS(__NR_kill, pid, SIGKILL);

    uint64_t one = 1;
    SYS(__NR_write, record->ready_fd, &one, sizeof one);
    guard(record);
}
