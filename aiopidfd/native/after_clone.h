/* What the files that run after the clone have in common. The contract of guardian.c holds for all of them. */
#ifndef AIOPIDFD_AFTER_CLONE_H
#define AIOPIDFD_AFTER_CLONE_H

#include "record.h"
#include "syscall.h"

#include <time.h>

enum { KERNEL_NSIG = 64, SIGSET_BYTES = 8 };

/* The kernel's own layout (asm-generic and x86-64; the restorer is only used by handlers). */
struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    uint64_t mask;
};

static inline __attribute__((noreturn)) void die(int status)
{
    for (;;)
        SYS(__NR_exit_group, status);
}

static inline void sleep_ms(long ms)
{
    struct timespec wait;
    wait.tv_sec = ms / 1000;
    wait.tv_nsec = ms % 1000 * 1000000;
    SYS(__NR_ppoll, NULL, 0, &wait, NULL, SIGSET_BYTES);
}

/* The child, from its birth to exec: before_exec.c. It takes a struct record *. */
void aiopidfd_before_exec(void *record) __attribute__((visibility("hidden")));

#endif
