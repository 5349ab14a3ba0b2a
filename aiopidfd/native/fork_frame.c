/* The caller's frame, in which a forked process goes on.
 *
 * It is written in assembly rather than with setjmp. To the compiler aiopidfd_fork_point() is a function
 * that returns once, and that is true in each of the two address spaces. Its frame lies on the caller's stack
 * and stays there until the caller has been told; the forked process has a copy. (longjmp would not do:
 * hardened builds refuse a jump from another stack.)
 *
 * With a shadow stack (x86 CET, arm64 GCS) the return from that frame would fault, because the guardian, and
 * so the forked process, has another shadow stack. A return would need a restore token on the caller's, such
 * as swapcontext(3) leaves. Python does not run with shadow stacks so far; the check below refuses them. */

#include "fork.h"
#include "syscall.h"

#include <errno.h>

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

static int has_shadow_stack(void)
{
    unsigned long pointer = 0;
    __asm__ volatile("rdsspq %0" : "+r"(pointer)); /* does nothing where there is no shadow stack */
    return pointer != 0;
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

static int has_shadow_stack(void)
{
    enum { GET_SHADOW_STACK_STATUS = 74 }; /* PR_GET_SHADOW_STACK_STATUS(2const), Linux 6.13 */
    unsigned long status = 0;
    return SYS(__NR_prctl, GET_SHADOW_STACK_STATUS, &status, 0, 0, 0) == 0 && (status & 1);
}

#else

/* The frame has not been written for this architecture. */
#define NO_FRAME 1

long aiopidfd_fork_point(void **frame, long (*body)(void *), void *arg)
{
    (void)frame, (void)body, (void)arg;
    return -ENOSYS;
}

void aiopidfd_fork_return(void *frame, long result)
{
    (void)frame, (void)result;
    for (;;)
        SYS(__NR_exit_group, 1);
}

static int has_shadow_stack(void)
{
    return 0;
}

#endif

int aiopidfd_fork_check(void)
{
#ifdef NO_FRAME
    return -ENOSYS;
#endif
    return has_shadow_stack() ? -ENOTSUP : 0;
}
