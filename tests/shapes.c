/* Trees of a shape that a script does not make fast enough. Says "x" once the tree is there.
 *
 *   shapes deep N      N processes, one below the other
 *   shapes passed-on N a process whose first thread has ended, and whose others end and begin all the
 *                      time: each passes the N children on to another */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int n;

static void stay(void)
{
    for (;;)
        pause();
}

static void start(void *(*run)(void *))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, NULL) == 0)
        pthread_detach(thread);
}

static void *pass_on(void *unused)
{
    usleep(20 * 1000);
    start(pass_on);
    return unused;
}

static void *begin(void *unused)
{
    for (int i = 0; i < n; i++)
        if (fork() == 0)
            stay();
    for (int i = 0; i < 40; i++) {
        usleep(500);
        start(pass_on);
    }
    write(1, "x", 1);
    return unused;
}

int main(int argc, char **argv)
{
    n = argc > 2 ? atoi(argv[2]) : 0;
    if (strcmp(argv[1], "passed-on") == 0) {
        start(begin);
        pthread_exit(NULL);
    }
    while (n--)
        if (fork())
            stay();
    write(1, "x", 1);
    stay();
}
