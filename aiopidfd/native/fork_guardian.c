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
 *   SIGCHLD's action       the guardian needs the default: put back in the child
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
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

enum { SIGSET_BYTES = 8 };

/* ---- The caller's frame ----------------------------------------------------------------------
 *
 * This is written in assembly rather than with setjmp. To the compiler aiopidfd_fork_point() is a function
 * that returns once, and that is true in each of the two address spaces. Its frame lies on the caller's stack
 * and stays there until the caller has been told; the forked process has a copy. (longjmp would not do:
 * hardened builds refuse a jump from another stack.)
 *
 * With a shadow stack (x86 CET, arm64 GCS) the return from that frame would fault, because the guardian, and
 * so the forked process, has another shadow stack. A return would need a restore token on the caller's, such
 * as swapcontext(3) leaves. Python does not run with shadow stacks so far; the check below refuses them. */

#if defined(__x86_64__)

__asm__(".text\n"
        ".hidden aiopidfd_fork_point\n"
        ".globl aiopidfd_fork_point\n"
        ".type aiopidfd_fork_point, @function\n"
        "aiopidfd_fork_point:\n"
        "  .cfi_startproc\n"
        "  endbr64\n"
        "  pushq %rbp\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  .cfi_rel_offset rbp, 0\n"
        "  pushq %rbx\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  pushq %r12\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  pushq %r13\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  pushq %r14\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  pushq %r15\n"
        "  .cfi_adjust_cfa_offset 8\n"
        "  subq $8, %rsp\n" /* aligns the stack for the call */
        "  .cfi_adjust_cfa_offset 8\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rdx, %rdi\n"
        "  call *%rsi\n"
        ".Laiopidfd_forked:\n"
        "  addq $8, %rsp\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  popq %r15\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  popq %r14\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  popq %r13\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  popq %r12\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  popq %rbx\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  popq %rbp\n"
        "  .cfi_adjust_cfa_offset -8\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size aiopidfd_fork_point, .-aiopidfd_fork_point\n"
        ".hidden aiopidfd_fork_return\n"
        ".globl aiopidfd_fork_return\n"
        ".type aiopidfd_fork_return, @function\n"
        "aiopidfd_fork_return:\n"
        "  endbr64\n"
        "  movq %rdi, %rsp\n"
        "  movq %rsi, %rax\n"
        "  jmp .Laiopidfd_forked\n"
        ".size aiopidfd_fork_return, .-aiopidfd_fork_return\n");

#define RSEQ_SIGNATURE 0x53053053

static int has_shadow_stack(void)
{
    unsigned long pointer = 0;
    __asm__ volatile("rdsspq %0" : "+r"(pointer)); /* does nothing where there is no shadow stack */
    return pointer != 0;
}

static char *thread_pointer(void)
{
    char *pointer;
    __asm__("movq %%fs:0, %0" : "=r"(pointer));
    return pointer;
}

#elif defined(__aarch64__)

__asm__(".text\n"
        ".hidden aiopidfd_fork_point\n"
        ".globl aiopidfd_fork_point\n"
        ".type aiopidfd_fork_point, %function\n"
        "aiopidfd_fork_point:\n"
        "  .cfi_startproc\n"
        "  hint #34\n" /* bti c */
        "  stp x29, x30, [sp, #-160]!\n"
        "  .cfi_def_cfa_offset 160\n"
        "  .cfi_offset x29, -160\n"
        "  .cfi_offset x30, -152\n"
        "  mov x29, sp\n"
        "  stp x19, x20, [sp, #16]\n"
        "  stp x21, x22, [sp, #32]\n"
        "  stp x23, x24, [sp, #48]\n"
        "  stp x25, x26, [sp, #64]\n"
        "  stp x27, x28, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n"
        "  stp d10, d11, [sp, #112]\n"
        "  stp d12, d13, [sp, #128]\n"
        "  stp d14, d15, [sp, #144]\n"
        "  str x29, [x0]\n"
        "  mov x0, x2\n"
        "  blr x1\n"
        ".Laiopidfd_forked:\n"
        "  ldp x19, x20, [sp, #16]\n"
        "  ldp x21, x22, [sp, #32]\n"
        "  ldp x23, x24, [sp, #48]\n"
        "  ldp x25, x26, [sp, #64]\n"
        "  ldp x27, x28, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n"
        "  ldp d10, d11, [sp, #112]\n"
        "  ldp d12, d13, [sp, #128]\n"
        "  ldp d14, d15, [sp, #144]\n"
        "  ldp x29, x30, [sp], #160\n"
        "  .cfi_def_cfa_offset 0\n"
        "  ret\n"
        "  .cfi_endproc\n"
        ".size aiopidfd_fork_point, .-aiopidfd_fork_point\n"
        ".hidden aiopidfd_fork_return\n"
        ".globl aiopidfd_fork_return\n"
        ".type aiopidfd_fork_return, %function\n"
        "aiopidfd_fork_return:\n"
        "  hint #34\n"
        "  mov sp, x0\n"
        "  mov x0, x1\n"
        "  b .Laiopidfd_forked\n"
        ".size aiopidfd_fork_return, .-aiopidfd_fork_return\n");

#define RSEQ_SIGNATURE 0xd428bc00

static int has_shadow_stack(void)
{
    enum { GET_SHADOW_STACK_STATUS = 74 }; /* PR_GET_SHADOW_STACK_STATUS(2const), Linux 6.13 */
    unsigned long status = 0;
    return SYS(__NR_prctl, GET_SHADOW_STACK_STATUS, &status, 0, 0, 0) == 0 && (status & 1);
}

static char *thread_pointer(void)
{
    char *pointer;
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
    return pointer;
}

#else

/* The frame above has not been written for this architecture. */
#define NO_FORK 1

long aiopidfd_fork_point(void **frame, long (*body)(void *), void *arg)
{
    (void)frame, (void)body, (void)arg;
    return -ENOSYS;
}

#endif

#ifdef NO_FORK

int aiopidfd_fork_check(void)
{
    return -ENOSYS;
}

void aiopidfd_fork_guardian(void *record)
{
    (void)record;
    for (;;)
        SYS(__NR_exit_group, 1);
}

#else

int aiopidfd_fork_check(void)
{
    return has_shadow_stack() ? -ENOTSUP : 0;
}

/* ---- rseq(2) ---------------------------------------------------------------------------------
 *
 * glibc 2.35 and later registers an area in each thread's TLS, where the kernel keeps the number of the
 * processor. sched_getcpu(3) and some allocators read it there. A guardian has no registration (the kernel
 * drops it with CLONE_VM), so its child has none either. Without a new one the child's copied number would
 * never change. */

extern const ptrdiff_t __rseq_offset __attribute__((weak, visibility("default")));
extern const unsigned int __rseq_size __attribute__((weak, visibility("default")));

struct rseq_head { /* the first fields of struct rseq, linux/rseq.h */
    uint32_t cpu_id_start, cpu_id;
    uint64_t rseq_cs;
};

static void register_rseq(void)
{
    enum { LEAST = 32, UNINITIALIZED = -1, FAILED = -2 };
    if (!&__rseq_offset || !&__rseq_size || __rseq_size == 0)
        return; /* another C library, or one that was told not to register (glibc.pthread.rseq) */
    volatile struct rseq_head *area = (volatile struct rseq_head *)(thread_pointer() + __rseq_offset);
    if ((int32_t)area->cpu_id < 0)
        return; /* the caller had no registration */
    area->cpu_id_start = 0;
    area->cpu_id = (uint32_t)UNINITIALIZED;
    area->rseq_cs = 0;
    /* glibc 2.40 and later makes the area larger where the kernel asks for that, in steps of 32. */
    unsigned long size = (__rseq_size + LEAST - 1UL) & ~(LEAST - 1UL);
    if (SYS(__NR_rseq, area, size, 0, RSEQ_SIGNATURE) < 0)
        area->cpu_id = (uint32_t)FAILED; /* then the C library asks the kernel instead */
}

/* ---- The forked process ---------------------------------------------------------------------- */

static __attribute__((noreturn)) void leave(void)
{
    for (;;)
        SYS(__NR_exit_group, 127);
}

/* None of the caller's code runs here before the caller has the pidfd and all else that it needs. If the
 * guardian is killed before that, or the caller fails, this process leaves. The record is in memory that
 * stays shared after the fork. */
static void wait_to_be_let_go(struct record *record)
{
    enum { LOOK_AGAIN_NS = 50 * 1000 * 1000 };
    for (;;) {
        int held = atomic_load(&record->held);
        if (held == HELD_LET_GO)
            return;
        if (held == HELD_LEAVES)
            leave();
        if (SYS(__NR_getppid) != record->guardian_pid &&
            atomic_compare_exchange_strong(&record->held, &held, HELD_LEAVES))
            leave();
        struct timespec wait = {.tv_sec = 0, .tv_nsec = LOOK_AGAIN_NS};
        SYS(__NR_futex, &record->held, FUTEX_WAIT, held, &wait);
    }
}

static __attribute__((noreturn)) void forked(struct record *record, const char *sigchld)
{
    SYS(__NR_rt_sigaction, SIGCHLD, sigchld, 0, SIGSET_BYTES);
    if (!(record->alternate_stack.ss_flags & SS_DISABLE))
        SYS(__NR_sigaltstack, &record->alternate_stack, 0);
    register_rseq();
    wait_to_be_let_go(record);
    aiopidfd_fork_return(record->frame, 1);
}

/* ---- The guardian ---------------------------------------------------------------------------- */

void aiopidfd_fork_guardian(void *opaque)
{
    struct record *record = opaque;
    record->guardian_pid = (int)SYS(__NR_getpid);
    record->parent_pid = (int)SYS(__NR_getppid);

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
        forked(record, sigchld);
    if (pid < 0)
        pid = -errno;
    atomic_store(&record->forking, 0);
    aiopidfd_forked(record, pid);
}

#endif
