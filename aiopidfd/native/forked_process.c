/* What a forked process does before it goes on where the caller was: it takes back what its guardian lacks, and
 * waits to be let go. libc_fork.c has the whole picture. */
#include "fork.h"
#include "syscall.h"

#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

enum { SIGSET_BYTES = 8 };

/* ---- rseq(2) ---------------------------------------------------------------------------------
 *
 * glibc 2.35 and later registers an area in each thread's TLS, where the kernel keeps the number of the
 * processor. sched_getcpu(3) and some allocators read it there. A guardian has no registration (the kernel
 * drops it with CLONE_VM), so its child has none either. Without a new one the child's copied number would
 * never change. */

#if defined(__x86_64__)

#define RSEQ_SIGNATURE 0x53053053

static char *thread_pointer(void)
{
    char *pointer;
    __asm__("movq %%fs:0, %0" : "=r"(pointer));
    return pointer;
}

#elif defined(__aarch64__)

#define RSEQ_SIGNATURE 0xd428bc00

static char *thread_pointer(void)
{
    char *pointer;
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
    return pointer;
}

#endif

#ifdef RSEQ_SIGNATURE

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

#else

static void register_rseq(void) {}

#endif

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

void aiopidfd_forked_process(struct record *record, const char *sigchld)
{
    SYS(__NR_rt_sigaction, SIGCHLD, sigchld, 0, SIGSET_BYTES);
    if (!(record->alternate_stack.ss_flags & SS_DISABLE))
        SYS(__NR_sigaltstack, &record->alternate_stack, 0);
    register_rseq();
    wait_to_be_let_go(record);
    aiopidfd_fork_return(record->frame, 1);
}
