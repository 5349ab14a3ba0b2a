#include "clone_assembly.h"
#include "syscall.h"

#include <linux/sched.h>
#include <stddef.h>

/* Linux 5.5, clone3 only; older headers lack it. */
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif

/* Linux 5.7, clone3 only. */
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

/* clone_args version 2 (Linux 5.7). Without a cgroup version 0 is passed (64 bytes, Linux 5.3). */
struct clone3_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    uint64_t set_tid, set_tid_size, cgroup;
};
enum { VERSION_0_SIZE = 64 };

/* The two entry points below return in the caller, with the pid or -errno. In the child they do not return:
 * they call entry(arg) on the new stack. They are written in assembly because C cannot say "from here on
 * another stack": a compiler may spill a value to a slot that the other side then reads. */
long aiopidfd_clone3(struct clone3_args *args, unsigned long size, void (*entry)(void *), void *arg)
    __attribute__((visibility("hidden")));
long aiopidfd_clone(unsigned long flags, void *stack_top, int *pidfd, void (*entry)(void *), void *arg, int *inside)
    __attribute__((visibility("hidden")));

#if defined(__x86_64__)

__asm__(".text\n"
        ".hidden aiopidfd_clone3\n"
        ".globl aiopidfd_clone3\n"
        ".type aiopidfd_clone3, @function\n"
        "aiopidfd_clone3:\n"
        "  .cfi_startproc\n"
        "  endbr64\n"
        "  movq %rdx, %r8\n" /* entry and arg: the kernel keeps r8 and r9 */
        "  movq %rcx, %r9\n"
        "  movl $435, %eax\n"
        "  syscall\n"
        "  testq %rax, %rax\n"
        "  jz 1f\n"
        "  ret\n"
        "1: .cfi_undefined rip\n"
        "  xorl %ebp, %ebp\n"
        "  movq %r9, %rdi\n"
        "  call *%r8\n"
        "  ud2\n"
        "  .cfi_endproc\n"
        ".size aiopidfd_clone3, .-aiopidfd_clone3\n"
        ".hidden aiopidfd_clone\n"
        ".globl aiopidfd_clone\n"
        ".type aiopidfd_clone, @function\n"
        "aiopidfd_clone:\n"
        "  .cfi_startproc\n"
        "  endbr64\n"
        "  movq %r9, %r10\n" /* child_tid */
        "  movq %rcx, %r9\n" /* entry; arg is in r8, which is `tls`, and is not read without CLONE_SETTLS */
        "  movl $56, %eax\n"
        "  syscall\n"
        "  testq %rax, %rax\n"
        "  jz 1f\n"
        "  ret\n"
        "1: .cfi_undefined rip\n"
        "  xorl %ebp, %ebp\n"
        "  movq %r8, %rdi\n"
        "  call *%r9\n"
        "  ud2\n"
        "  .cfi_endproc\n"
        ".size aiopidfd_clone, .-aiopidfd_clone\n");

#elif defined(__aarch64__)

__asm__(".text\n"
        ".hidden aiopidfd_clone3\n"
        ".globl aiopidfd_clone3\n"
        ".type aiopidfd_clone3, %function\n"
        "aiopidfd_clone3:\n"
        "  .cfi_startproc\n"
        "  hint #34\n" /* bti c */
        "  mov x8, #435\n"
        "  svc #0\n" /* the kernel keeps every register but x0 */
        "  cbz x0, 1f\n"
        "  ret\n"
        "1: .cfi_undefined x30\n"
        "  mov x29, xzr\n"
        "  mov x30, xzr\n"
        "  mov x0, x3\n"
        "  blr x2\n"
        "  brk #0\n"
        "  .cfi_endproc\n"
        ".size aiopidfd_clone3, .-aiopidfd_clone3\n"
        ".hidden aiopidfd_clone\n"
        ".globl aiopidfd_clone\n"
        ".type aiopidfd_clone, %function\n"
        "aiopidfd_clone:\n"
        "  .cfi_startproc\n"
        "  hint #34\n"
        "  mov x7, x3\n"
        "  mov x6, x4\n"
        "  mov x3, xzr\n"
        "  mov x4, x5\n" /* child_tid */
        "  mov x8, #220\n"
        "  svc #0\n"
        "  cbz x0, 1f\n"
        "  ret\n"
        "1: .cfi_undefined x30\n"
        "  mov x29, xzr\n"
        "  mov x30, xzr\n"
        "  mov x0, x6\n"
        "  blr x7\n"
        "  brk #0\n"
        "  .cfi_endproc\n"
        ".size aiopidfd_clone, .-aiopidfd_clone\n");

#elif defined(__riscv)

__asm__(".text\n"
        ".hidden aiopidfd_clone\n"
        ".globl aiopidfd_clone\n"
        ".type aiopidfd_clone, %function\n"
        "aiopidfd_clone:\n"
        "  .cfi_startproc\n"
        "  mv t1, a3\n" /* the kernel keeps every register but a0 */
        "  mv t2, a4\n"
        "  li a3, 0\n"
        "  mv a4, a5\n" /* child_tid */
        "  li a7, 220\n"
        "  ecall\n"
        "  beqz a0, 1f\n"
        "  ret\n"
        "1: .cfi_undefined ra\n"
        "  li s0, 0\n"
        "  li ra, 0\n"
        "  mv a0, t2\n"
        "  jalr t1\n"
        "  ebreak\n"
        "  .cfi_endproc\n"
        ".size aiopidfd_clone, .-aiopidfd_clone\n");

#else

/* On any other architecture: the C library's clone(), which knows how to switch the stack there. It has one
 * fault: when the call *fails*, it writes errno through the TLS that the guardian shares with the spawning
 * thread. The architectures above do not have this fault. */
extern int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...);

struct plain_entry {
    void (*entry)(void *);
    void *arg;
};

static int plain_start(void *opaque)
{
    struct plain_entry *plain = opaque;
    plain->entry(plain->arg);
    return 127;
}

long aiopidfd_clone(unsigned long flags, void *stack_top, int *pidfd, void (*entry)(void *), void *arg, int *inside)
{
    /* This lies on the new stack, so that it outlives this frame. */
    struct plain_entry *plain = (struct plain_entry *)((char *)stack_top - 64);
    plain->entry = entry;
    plain->arg = arg;
    int pid = clone(plain_start, plain, (int)flags, plain, pidfd, NULL, inside);
    return pid < 0 ? -11 /* always EAGAIN, as we may not read errno here */ : pid;
}

#endif

long clone_process(const struct clone_request *request, void (*entry)(void *), void *arg)
{
#if AIOPIDFD_HAVE_CLONE3
    if (request->call == CALL_CLONE3) {
        struct clone3_args args;
        args.flags = request->flags | CLONE_PIDFD | (request->born ? CLONE_PARENT_SETTID : 0) |
                     (request->inside ? CLONE_CHILD_CLEARTID : 0);
        args.pidfd = (uint64_t)(uintptr_t)request->pidfd;
        args.child_tid = (uint64_t)(uintptr_t)request->inside;
        args.parent_tid = (uint64_t)(uintptr_t)request->born;
        args.exit_signal = (uint64_t)request->exit_signal;
        args.stack = (uint64_t)(uintptr_t)request->stack;
        args.stack_size = request->stack_size;
        args.tls = 0;
        if (request->cgroup < 0)
            return aiopidfd_clone3(&args, VERSION_0_SIZE, entry, arg);
        args.flags |= CLONE_INTO_CGROUP;
        args.set_tid = 0;
        args.set_tid_size = 0;
        args.cgroup = (uint64_t)request->cgroup;
        return aiopidfd_clone3(&args, sizeof args, entry, arg);
    }
#endif
    unsigned long flags = (unsigned long)(request->flags & ~CLONE_CLEAR_SIGHAND) | CLONE_PIDFD |
                          (request->inside ? CLONE_CHILD_CLEARTID : 0) | (unsigned long)request->exit_signal;
    return aiopidfd_clone(flags, request->stack + request->stack_size, request->pidfd, entry, arg, request->inside);
}
