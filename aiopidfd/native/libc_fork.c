/* A forked process that is invisible to ours, and that is sound: fork() without the exec.
 *
 *   the caller's thread              guardian                       the forked process
 *   blocks all signals
 *   clone(CLONE_VM | CLONE_FILES) -> the caller's TLS, our memory,
 *   waits, outside the C library     our descriptors, a stack of
 *                                    its own
 *                                    fork(), the C library's ----->  at-fork handlers, new locks
 *                                    reports the pid                 waits to be let go
 *   has all descriptors;
 *   lets it go ------------------------------------------------->  goes on in the caller's frame
 *   goes on                          guardian.c: never again
 *                                    touches the TLS
 *
 * A raw clone would inherit the locks of malloc and stdio as other threads held them, a wrong thread id and
 * no robust list. The C library's fork() handles all of that, and everybody's at-fork handlers, for the
 * thread whose TLS it is called with. That is the caller's TLS. So the forked process is a copy of the
 * caller's thread, and may go on where that thread was.
 *
 * A guardian lacks some things that the caller has. Its child would lack them too:
 *
 *   SIGCHLD's action       the guardian needs the default: put back in the child (forked_process.c)
 *   the signal mask        put back by the caller's half (fork_caller.c)
 *   the alternate stack    the kernel drops it with CLONE_VM: set again in the child
 *   the rseq registration  dropped likewise: registered again in the child
 *   robust list, thread id the C library's fork() does it
 *
 * Until fork() has returned in the guardian, the guardian runs libc code on the caller's TLS, while the
 * caller waits. After that guardian.c's contract holds.
 */
#include "fork.h"
#include "syscall.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { SIGSET_BYTES = 8 };

void aiopidfd_fork_guardian(void *opaque)
{
    struct record *record = opaque;
    record->guardian_pid = (int)SYS(__NR_getpid);
    record->parent_pid = (int)SYS(__NR_getppid);
    SYS(__NR_prctl, PR_SET_PDEATHSIG, SIGCONT); /* as in guardian.c; the kernel clears it in the new process */

    /* If SIGCHLD were ignored, or had SA_NOCLDWAIT, the kernel would reap the child itself and drop its
     * status. The other handlers stay, for the child: every signal is blocked here, and remains blocked. The
     * guardian does not set its name yet (PR_SET_NAME), because the child would have that name too. */
    char reset[64] = {0}, sigchld[64]; /* struct sigaction; no kernel's version is larger */
    SYS(__NR_rt_sigaction, SIGCHLD, reset, sigchld, SIGSET_BYTES);

    aiopidfd_wait_to_fork(record);
    aiopidfd_check_calls_to_fork(record);
    atomic_store(&record->forking, 1);
    long pid = fork();
    if (pid == 0)
        aiopidfd_forked_process(record, sigchld);
    if (pid < 0)
        pid = -errno;
    atomic_store(&record->forking, 0);
    aiopidfd_forked(record, pid);
}
