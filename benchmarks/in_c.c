// in_c WAY ORDER COUNT: starts /bin/true COUNT times and waits for each. Prints the microseconds
// that this took, for each. Nothing is around it: this is what the kernel asks for.
//
// One more is started before, to warm up.
//
// WAY    posix_spawn   by posix_spawn(3): one process
//        guardian      the least that a guardian can be: a process that shares our memory and never
//                      execs starts the program, waits for it and ends: two processes. It keeps no
//                      descriptors, tells nobody anything, and is not locked in.
//        core          aiopidfd's own guardian and spawner, without Python
// ORDER  in-turn       each is waited for before the next is started
//        at-once       all are started, then all are waited for

#define _GNU_SOURCE
#include "../aiopidfd/native/spawner.h"

#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STACK = 16 * 1024 };

struct guardian {
    char stack[STACK], program_stack[STACK];
    int status;
};

extern char **environ;

static char *command[] = {"/bin/true", NULL};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int program(void *unused) {
    (void)unused;
    execve(command[0], command, environ);
    _exit(127);
}

static int guard(void *arg) {
    struct guardian *guardian = arg;
    siginfo_t info;
    pid_t pid = clone(program, guardian->program_stack + STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
    if (pid < 0 || waitid(P_PID, pid, &info, WEXITED))
        return 1;
    guardian->status = info.si_status;
    return 0;
}

// What a way starts and waits for. Which of these it uses is the way's own affair.
struct started {
    pid_t pid;
    struct guardian *guardian;
    struct child *child;
};

static int by_posix_spawn(struct started *started) {
    return posix_spawn(&started->pid, command[0], NULL, NULL, command, environ);
}

static int wait_for_pid(struct started *started) {
    siginfo_t info;
    return waitid(P_PID, started->pid, &info, WEXITED | __WALL) || info.si_status;
}

static int by_guardian(struct started *started) {
    started->guardian = malloc(sizeof *started->guardian);
    if (!started->guardian)
        return 1;
    started->pid = clone(guard, started->guardian->stack + STACK, CLONE_VM | CLONE_FILES, started->guardian);
    return started->pid < 0;
}

static int wait_for_guardian(struct started *started) {
    int failed = wait_for_pid(started) || started->guardian->status;
    free(started->guardian);
    return failed;
}

static int by_core(struct started *started) {
    const char *const paths[] = {command[0], NULL}, *const argv[] = {command[0], NULL};
    struct plan plan = {
        .call = CALL_CLONE3,
        .highest = 2,
        .cgroup = -1,
        .kill_fd = -1,
        .paths = paths,
        .argv = argv,
        .envp = (const char *const *)environ,
    };
    struct failure failure;
    started->child = spawner_spawn(&plan, &failure);
    if (!started->child)
        return 1;
    while (spawner_poll(started->child) == CHILD_STARTING)
        spawner_block(started->child, CHILD_STARTING, -1);
    return 0;
}

static int wait_for_core(struct started *started) {
    int code, status;
    struct rusage usage;
    while (spawner_poll(started->child) == CHILD_RUNNING)
        spawner_block(started->child, CHILD_RUNNING, -1);
    int known = spawner_result(started->child, &code, &status, &usage);
    spawner_close(started->child);
    spawner_finish(started->child, 1000000000);
    spawner_release(started->child);
    return !known || status;
}

static const struct way {
    const char *name;
    int (*start)(struct started *), (*wait)(struct started *); // not 0 if something is wrong
} ways[] = {
    {"posix_spawn", by_posix_spawn, wait_for_pid},
    {"guardian", by_guardian, wait_for_guardian},
    {"core", by_core, wait_for_core},
};

int main(int argc, char **argv) {
    if (argc != 4 || spawner_init())
        return 2;
    const struct way *way = ways;
    while (strcmp(argv[1], way->name))
        if (++way == ways + sizeof ways / sizeof *ways)
            return 2;
    int in_turn = !strcmp(argv[2], "in-turn"), count = atoi(argv[3]);
    struct started *started = calloc(count, sizeof *started), first;
    if (!started || way->start(&first) || way->wait(&first)) // the first of a process takes longer
        return 2;
    double begin = now();
    for (int i = 0; i < count; i++)
        if (way->start(&started[i]) || (in_turn && way->wait(&started[i])))
            return 1;
    for (int i = 0; i < count && !in_turn; i++)
        if (way->wait(&started[i]))
            return 1;
    printf("%f\n", (now() - begin) / count);
    return 0;
}
