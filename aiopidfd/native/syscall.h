/* Raw system calls: no libc, no errno, no thread-local storage.
 *
 * What runs in the guardian or in the child before exec shares our memory and the spawning
 * thread's TLS (guardian.c), so libc's wrappers, which write errno, must not run there.
 * sys6() returns what the kernel returns: a value, or -errno.
 *
 * A new architecture needs sys6() below; clone_assembly.c then works for it through clone(2).
 */
#ifndef AIOPIDFD_SYSCALL_H
#define AIOPIDFD_SYSCALL_H

#include <asm/unistd.h>

/* P_PIDFD of waitid(2), Linux 5.4. glibc has it from 2.36 on, but wheels are built with an older glibc. */
#define WAIT_PIDFD 3

#if defined(__x86_64__)

static inline __attribute__((always_inline)) long
sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#elif defined(__aarch64__)

static inline __attribute__((always_inline)) long
sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}

#elif defined(__riscv) && __riscv_xlen == 64

static inline __attribute__((always_inline)) long
sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long a7 __asm__("a7") = nr;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    __asm__ volatile("ecall"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                     : "memory");
    return a0;
}

#elif defined(__loongarch__) && __loongarch_grlen == 64

static inline __attribute__((always_inline)) long
sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long a7 __asm__("$a7") = nr;
    register long a0 __asm__("$a0") = a;
    register long a1 __asm__("$a1") = b;
    register long a2 __asm__("$a2") = c;
    register long a3 __asm__("$a3") = d;
    register long a4 __asm__("$a4") = e;
    register long a5 __asm__("$a5") = f;
    __asm__ volatile("syscall 0"
                     : "+r"(a0)
                     : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
                     : "$t0", "$t1", "$t2", "$t3", "$t4", "$t5", "$t6", "$t7", "$t8", "memory");
    return a0;
}

#elif defined(__s390x__)

static inline __attribute__((always_inline)) long
sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r1 __asm__("1") = nr;
    register long r2 __asm__("2") = a;
    register long r3 __asm__("3") = b;
    register long r4 __asm__("4") = c;
    register long r5 __asm__("5") = d;
    register long r6 __asm__("6") = e;
    register long r7 __asm__("7") = f;
    __asm__ volatile("svc 0"
                     : "+d"(r2)
                     : "d"(r1), "d"(r3), "d"(r4), "d"(r5), "d"(r6), "d"(r7)
                     : "cc", "memory");
    return r2;
}

#elif defined(__powerpc64__)

static inline __attribute__((always_inline)) long
sys6(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r0 __asm__("r0") = nr;
    register long r3 __asm__("r3") = a;
    register long r4 __asm__("r4") = b;
    register long r5 __asm__("r5") = c;
    register long r6 __asm__("r6") = d;
    register long r7 __asm__("r7") = e;
    register long r8 __asm__("r8") = f;
    /* The sc instruction reports an error in the summary overflow bit, and gives errno as a positive
     * number. */
    __asm__ volatile("sc\n\tbns+ 1f\n\tneg %1, %1\n1:"
                     : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r7), "+r"(r8)
                     :
                     : "r9", "r10", "r11", "r12", "cr0", "ctr", "xer", "memory");
    return r3;
}

#else
#error "aiopidfd: this architecture needs a sys6() in native/syscall.h"
#endif

/* SYS(nr, ...) takes up to five arguments of any scalar or pointer type. */
#define SYS5(nr, a, b, c, d, e, ...) sys6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define SYS(...) SYS5(__VA_ARGS__, 0, 0, 0, 0, 0, 0)

#endif
