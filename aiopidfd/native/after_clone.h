/* What the files that run after the clone have in common. The contract of guardian.c holds for all of them. */
#ifndef AIOPIDFD_AFTER_CLONE_H
#define AIOPIDFD_AFTER_CLONE_H

#include "spawn_record.h"
#include "syscall.h"

#include <limits.h>
#include <linux/futex.h>
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

/* Enters a new phase, and wakes all threads that sleep on `alive`. */
static inline void enter(struct record *record, int phase)
{
    atomic_store(&record->phase, phase);
    atomic_fetch_add(&record->alive, 1);
    if (atomic_load(&record->awaited))
        SYS(__NR_futex, &record->alive, FUTEX_WAKE, INT_MAX);
}

/* The child ends, and its start fails at `step` with -errno. */
static inline __attribute__((noreturn)) void child_fails(struct record *record, int step, long result)
{
    record->failed_step = step;
    record->error = (int)-result;
    die(127);
}

/* The child, from its birth to exec: before_exec.c. It takes a struct record *. */
void aiopidfd_before_exec(void *record) __attribute__((visibility("hidden")));

/* Moves the child into the cgroup, with the rights that it has as yet: enter_cgroup.c. */
void aiopidfd_enter_cgroup(struct record *record) __attribute__((visibility("hidden")));

/* Execs the file; returns -errno: exec_when_busy.c. */
long aiopidfd_try_exec(const struct record *record, const char *path) __attribute__((visibility("hidden")));

/* The start fails at `step` (see FAILED_CLONE), with -errno: guardian.c. */
void aiopidfd_guardian_fails(struct record *record, int step, long result)
    __attribute__((visibility("hidden"), noreturn));

/* Whether a guardian may make the calls that it needs: guardian_tries_calls.c. If not, the start fails. */
void aiopidfd_check_calls(struct record *record) __attribute__((visibility("hidden")));
void aiopidfd_check_that_we_can_contain(struct record *record, long subreaper) __attribute__((visibility("hidden")));

/* They leave the descriptor table that they share with the host: leave_descriptor_table.c. The guardian's returns
 * 0 or -errno. The child's keeps the numbers up to `highest`, and looks whether they are still the same files. */
long aiopidfd_leave_table(struct record *record) __attribute__((visibility("hidden")));
void aiopidfd_child_leaves_table(struct record *record) __attribute__((visibility("hidden")));

/* ---- guardian_watches_program.c ---- */

/* What it sleeps on, in this order. */
enum { CHILD, LIFE, SELF, N_FDS };

/* The rest of the guardian's life. */
void aiopidfd_stand_guard(struct record *record) __attribute__((visibility("hidden"), noreturn));

long aiopidfd_reap(struct record *record, int options, int *over) __attribute__((visibility("hidden")));
long aiopidfd_compare_memory(const struct record *record, int task) __attribute__((visibility("hidden")));
void aiopidfd_tell(const struct record *record) __attribute__((visibility("hidden")));

#endif
