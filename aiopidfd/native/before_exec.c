/* The child, from its birth to exec. What the options ask for is a list that _spawn/steps_before_exec.py has laid
 * out. The contract of guardian.c holds here. */
#include "after_clone.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

void aiopidfd_before_exec(void *opaque)
{
    struct record *record = opaque;

    if (record->call == CALL_CLONE)
        atomic_store(&record->born, (int)SYS(__NR_getpid)); /* clone3 has the kernel store it */
    int unclaimed = CLAIM_NONE;
    if (!atomic_compare_exchange_strong(&record->claim, &unclaimed, CLAIM_CHILD))
        die(127); /* the guardian was killed and the spawner has given us up */

    aiopidfd_child_leaves_table(record);

    if (record->sigchld_ignored) {
        /* The guardian needs SIGCHLD at its default; the program inherits what the caller had. */
        struct kernel_sigaction ignore;
        ignore.handler = SIG_IGN;
        ignore.flags = 0;
        ignore.restorer = 0;
        ignore.mask = 0;
        SYS(__NR_rt_sigaction, SIGCHLD, &ignore, 0, SIGSET_BYTES);
    }

    if (record->enter_cgroup)
        aiopidfd_enter_cgroup(record);

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

    /* The guardian was killed: nobody will reap us, and PR_SET_PDEATHSIG was set too late to tell us. */
    if (SYS(__NR_getppid) != record->guardian_pid)
        die(127);
    /* The start was given up before we were born. Our exec may hang, and the guardian be killed meanwhile. */
    if (atomic_load(&record->kill_requested))
        SYS(__NR_kill, SYS(__NR_getpid), SIGKILL);

    SYS(__NR_rt_sigprocmask, SIG_SETMASK, &record->sigmask, 0, SIGSET_BYTES);

    /* Like CPython: report the first failure that says more than "not here", or else the last failure. */
    long telling = 0, last = -ENOENT;
    for (char *const *path = record->paths; *path; path++) {
        last = aiopidfd_try_exec(record, *path);
        if (!telling && last != -ENOENT && last != -ENOTDIR)
            telling = last;
    }
    child_fails(record, FAILED_EXEC, telling ? telling : last);
}
