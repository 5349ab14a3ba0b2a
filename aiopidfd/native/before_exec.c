/* The child, from its birth to exec. What the options ask for is a list that _spawn/steps_before_exec.py has laid
 * out. The contract of guardian.c holds here. */
#include "after_clone.h"
#include "fd_identity.h"

#include <errno.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stddef.h>

/* This comes first: until now the table is the host's. Descriptors above the highest number that is needed
 * are not even copied (close_range(2), Linux 5.9). So the cost does not depend on how much the host has
 * open. */
static void leave_shared_table(struct record *record)
{
    long result = SYS(__NR_close_range, record->highest + 1, ~0U, CLOSE_RANGE_UNSHARE);
    if (result < 0)
        child_fails(record, FAILED_TABLE, result);
}

/* The host may have closed the numbers of what the program is to get, and opened something else there. The
 * child has its own table by now, so what is found here stays. */
static void check_descriptors(struct record *record)
{
    for (unsigned long i = 0; i < record->n_fds; i++)
        if (!fds_are_ours(&record->fds[i]))
            child_fails(record, FAILED_DESCRIPTORS, -EBADF);
}

void aiopidfd_before_exec(void *opaque)
{
    struct record *record = opaque;

    if (record->call == CALL_CLONE)
        atomic_store(&record->born, (int)SYS(__NR_getpid)); /* clone3 has the kernel store it */
    int unclaimed = CLAIM_NONE;
    if (!atomic_compare_exchange_strong(&record->claim, &unclaimed, CLAIM_CHILD))
        die(127); /* the guardian was killed and the spawner has given us up */

    if (!record->private_table)
        leave_shared_table(record);
    check_descriptors(record);

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
