// in_c WAY ORDER COUNT: starts /bin/true COUNT times and waits for each. Prints the microseconds
// that this took, for each. Nothing is around it: this is what the kernel asks for.
//
// WAY    posix_spawn   by posix_spawn(3): one process
//        guardian      the least that a guardian can be: a process that shares our memory and never
//                      execs starts the program, waits for it and ends: two processes. It keeps no
//                      descriptors, tells nobody anything, and is not locked in.
// ORDER  in-turn       each is waited for before the next is started
//        at-once       all are started, then all are waited for

#define _GNU_SOURCE
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

static pid_t start(struct guardian *guardian) {
    pid_t pid;
    if (guardian)
        return clone(guard, guardian->stack + STACK, CLONE_VM | CLONE_FILES, guardian);
    return posix_spawn(&pid, command[0], NULL, NULL, command, environ) ? -1 : pid;
}

static int wait_for(pid_t pid, struct guardian *guardian) {
    siginfo_t info;
    if (waitid(P_PID, pid, &info, WEXITED | __WALL) || info.si_status)
        return 1;
    return guardian ? guardian->status : 0;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    int guarded = !strcmp(argv[1], "guardian"), in_turn = !strcmp(argv[2], "in-turn"), count = atoi(argv[3]);
    pid_t *pids = calloc(count, sizeof *pids);
    struct guardian *guardians = guarded ? calloc(count, sizeof *guardians) : NULL;
    if (!pids || (guarded && !guardians))
        return 2;
    double begin = now();
    for (int i = 0; i < count; i++) {
        pids[i] = start(guarded ? &guardians[i] : NULL);
        if (pids[i] < 0 || (in_turn && wait_for(pids[i], guarded ? &guardians[i] : NULL)))
            return 1;
    }
    for (int i = 0; i < count && !in_turn; i++)
        if (wait_for(pids[i], guarded ? &guardians[i] : NULL))
            return 1;
    printf("%f\n", (now() - begin) / count);
    return 0;
}
