/* A guardian runs on with the ids, the capabilities and the freedom that we had when we made it, in
 * memory that we can write. If we then give up privileges, or enter a sandbox, whoever takes us over
 * could make the guardian act with what we gave up. So a guardian locks itself in: once the program
 * runs it needs few system calls, and seccomp(2) kills it at any other. One that contains its program's
 * tree must be able to kill, too; by SIGKILL alone, but that is what `contain` costs.
 *
 * Under the contract of guardian.c.
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

/* One value of the second argument alone. */
#define ALLOW_WITH(nr, value)                                                                     \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),                                                \
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SECOND_ARGUMENT),                                      \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1), ANSWER(SECCOMP_RET_ALLOW),              \
        ANSWER(SECCOMP_RET_KILL_PROCESS)

/* When a filter is installed the kernel looks, for each system call that there is, whether it is allowed
 * whatever its arguments are, to answer faster later (kernel/seccomp.c, seccomp_cache_prepare()). That is
 * most of what our filter costs, and a guardian makes five calls in its life: TAX, which does nothing
 * here, ends the look at once. */
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
    /* prctl(2) and not seccomp(2): a filter of the host's may kill at that (systemd's @system-service). */
    SYS(__NR_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
