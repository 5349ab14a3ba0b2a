// posix_spawn COUNT: starts COUNT times /bin/true at once by posix_spawn(3), then waits for each by
// waitid(2). Prints the microseconds that this took, for each.

#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
    char *command[] = {"/bin/true", NULL};
    int count = argc > 1 ? atoi(argv[1]) : 0;
    pid_t *pids = count > 0 ? calloc(count, sizeof *pids) : NULL;
    if (!pids)
        return 2;
    double start = now();
    for (int i = 0; i < count; i++)
        if (posix_spawn(&pids[i], command[0], NULL, NULL, command, environ))
            return 1;
    for (int i = 0; i < count; i++) {
        siginfo_t info;
        if (waitid(P_PID, pids[i], &info, WEXITED) || info.si_status)
            return 1;
    }
    printf("%f\n", (now() - start) / count);
    return 0;
}
