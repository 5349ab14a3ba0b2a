/* A guardian keeps the ids, the capabilities and the freedom that we had when we made it, and we can write to
 * its memory. If we then give up privileges, or enter a sandbox, an attacker who takes us over could make the
 * guardian act with what we gave up. So a guardian locks itself in. Once the program runs, the guardian needs
 * few system calls, and seccomp(2) kills it at any other. A guardian that contains its program's tree must
 * also be able to kill. It may only send SIGKILL, but `contain` cannot do without that.
 *
 * The contract of guardian.c holds here.
 */
#include "jail.h"
#include "syscall.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv)
#define OUR_ARCH AUDIT_ARCH_RISCV64
#elif defined(__s390x__)
#define OUR_ARCH AUDIT_ARCH_S390X
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define OUR_ARCH AUDIT_ARCH_PPC64LE
#elif defined(__powerpc64__)
#define OUR_ARCH AUDIT_ARCH_PPC64
#elif defined(__loongarch__)
#define OUR_ARCH (258 | __AUDIT_ARCH_64BIT | __AUDIT_ARCH_LE) /* EM_LOONGARCH */
#endif

#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define ANSWER(action) BPF_STMT(BPF_RET | BPF_K, action)
#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), ANSWER(SECCOMP_RET_ALLOW)

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define LOW_WORD 4
#else
#define LOW_WORD 0
#endif
#define SECOND_ARGUMENT (offsetof(struct seccomp_data, args[1]) + LOW_WORD)

/* Allows only one value of the second argument. */
#define ALLOW_WITH(nr, value)                                                                     \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),                                                \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SECOND_ARGUMENT),                                      \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1), ANSWER(SECCOMP_RET_ALLOW),              \
        ANSWER(SECCOMP_RET_KILL_PROCESS)

/* When a filter is installed, the kernel checks for each existing system call whether it is allowed whatever
 * its arguments are, to answer faster later (kernel/seccomp.c, seccomp_cache_prepare()). That is most of the
 * cost of our filter, and a guardian makes only five calls in its life. TAX does nothing here, but it ends
 * that check at once. */
#define COMMON                                                                                \
    LOAD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0),                          \
        ANSWER(SECCOMP_RET_KILL_PROCESS), LOAD(nr), BPF_STMT(BPF_MISC | BPF_TAX, 0),          \
        ALLOW(__NR_ppoll), ALLOW(__NR_waitid), ALLOW(__NR_exit_group),                        \
        ALLOW(__NR_restart_syscall), ALLOW(__NR_read), /* what it holds is in guardian.c: */  \
        ALLOW(__NR_write),                             /* nothing of ours */                  \
        ALLOW(__NR_kcmp),                              /* compares, and no more */            \
        ALLOW_WITH(__NR_futex, FUTEX_WAKE)             /* who waits in our own process */

static const struct sock_filter FILTER[] = {
    COMMON,
    ANSWER(SECCOMP_RET_KILL_PROCESS),
};

static const struct sock_filter CONTAINING[] = {
    COMMON,
    ALLOW(__NR_lseek),
    ALLOW(__NR_clock_gettime),
    ALLOW_WITH(__NR_kill, SIGKILL),
    ALLOW_WITH(__NR_sched_setscheduler, SCHED_IDLE),
    ANSWER(SECCOMP_RET_KILL_PROCESS),
};

void aiopidfd_jail(int contain)
{
    struct sock_fprog program;
    if (contain) {
        program.len = sizeof CONTAINING / sizeof CONTAINING[0];
        program.filter = (struct sock_filter *)CONTAINING;
    } else {
        program.len = sizeof FILTER / sizeof FILTER[0];
        program.filter = (struct sock_filter *)FILTER;
    }
    SYS(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1);
    /* prctl(2) and not seccomp(2): a filter of the host's may kill us for the latter (systemd's
     * @system-service). */
    SYS(__NR_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
