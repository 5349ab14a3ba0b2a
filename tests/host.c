/* A host in plain C: the spawner without Python, for a C library that no Python here is built with.
 * .ci/musl compiles and runs it. Its exit status is 0 if all was as it should be. */
#define _GNU_SOURCE
#include "../aiopidfd/native/spawner.h"
#include "../aiopidfd/native/descendants.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(what)                                                                  \
    do {                                                                             \
        if (!(what)) {                                                               \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);       \
            abort();                                                                 \
        }                                                                            \
    } while (0)

extern char **environ;

static volatile sig_atomic_t sigchld;

static void count(int signal)
{
    (void)signal;
    sigchld++;
}

static struct child *try_start(enum clone_call call, const char *script, struct hub *hub, int private, int contain)
{
    static const char *const nowhere[] = {"/nonexistent", NULL}, *const shell[] = {"/bin/sh", NULL};
    const char *argv[] = {"sh", "-c", script, NULL};
    struct plan plan = {
        .call = call,
        .private_memory = private,
        .contain = contain,
        .highest = 2,
        .cgroup = -1,
        .kill_fd = -1,
        .hub = hub,
        .paths = script ? shell : nowhere,
        .argv = argv,
        .envp = (const char *const *)environ,
    };
    struct failure failure;
    struct child *child = spawner_spawn(&plan, &failure);
    if (!child)
        fprintf(stderr, "a start failed: %s (%s)\n", strerror(-failure.error), failure.call ? failure.call : "");
    CHECK(child);
    return child;
}

static enum child_state wait_while(struct child *child, enum child_state state)
{
    while (spawner_poll(child) == state)
        spawner_block(child, state, -1);
    return spawner_state(child);
}

static void expect(struct child *child, int code, int status)
{
    int found_code, found_status;
    struct rusage usage;
    wait_while(child, CHILD_STARTING);
    CHECK(wait_while(child, CHILD_RUNNING) == CHILD_EXITED);
    CHECK(spawner_result(child, &found_code, &found_status, &usage));
    CHECK(found_code == code && found_status == status);
    spawner_finish(child, 1000000000);
    spawner_close(child);
    spawner_release(child);
}

static void nobody_has_noticed(void)
{
    CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    CHECK(sigchld == 0);
}

static void starts(enum clone_call call)
{
    for (int private = 0; private < 2; private++) {
        for (int status = 0; status < 256; status += 17) {
            char script[32];
            snprintf(script, sizeof script, "exit %d", status);
            expect(try_start(call, script, NULL, private, 0), CLD_EXITED, status);
        }
        struct child *child = try_start(call, "exec sleep 1000", NULL, private, 0);
        CHECK(wait_while(child, CHILD_STARTING) == CHILD_RUNNING);
        CHECK(spawner_pid(child) > 0 && spawner_pidfd(child) > 2);
        nobody_has_noticed();
        CHECK(spawner_signal(child, SIGTERM) == 0);
        expect(child, CLD_KILLED, SIGTERM);
        child = try_start(call, "exec sleep 1000", NULL, private, 0);
        spawner_kill(child); /* perhaps before there is a program */
        expect(child, CLD_KILLED, SIGKILL);
        child = try_start(call, NULL, NULL, private, 0);
        CHECK(wait_while(child, CHILD_STARTING) == CHILD_FAILED);
        int error, step;
        const char *refused;
        spawner_error(child, &error, &step, &refused);
        CHECK(error == ENOENT && !refused);
        spawner_release(child);
    }
    nobody_has_noticed();
}

static void hears_by_a_hub(enum clone_call call)
{
    enum { N = 50 };
    struct failure failure;
    struct hub *hub = hub_new(&failure);
    CHECK(hub);
    struct child *children[N];
    for (int i = 0; i < N; i++)
        children[i] = try_start(call, "exit 3", hub, 0, 0);
    for (int over = 0; over < N;) {
        struct pollfd pollfd = {.fd = hub_fd(hub), .events = POLLIN};
        int late;
        uint64_t ids[N];
        CHECK(poll(&pollfd, 1, 30000) == 1);
        size_t n = hub_collect(hub, ids, N, &late);
        for (size_t k = 0; k < n; k++)
            for (int i = 0; i < N; i++)
                over += spawner_id(children[i]) == ids[k] && spawner_state(children[i]) == CHILD_EXITED;
    }
    for (int i = 0; i < N; i++)
        expect(children[i], CLD_EXITED, 3);
    hub_release(hub);
    nobody_has_noticed();
}

static int visit(void *found, int pid, int pidfd)
{
    (void)pid, (void)pidfd;
    ++*(int *)found;
    return 0;
}

static void trees(enum clone_call call)
{
    for (int contain = 0; contain < 2; contain++) {
        struct child *child = try_start(call, "sleep 1000 & sleep 1000 & wait", NULL, 0, contain);
        CHECK(wait_while(child, CHILD_STARTING) == CHILD_RUNNING);
        int guardian = spawner_stay(child), found = 0, signalled, denied;
        CHECK(guardian >= 0);
        while (found != 3) {
            found = 0;
            CHECK(tree_visit(spawner_guardian_pid(child), guardian, visit, &found) == 0);
        }
        CHECK(tree_signal(spawner_guardian_pid(child), guardian, 0, SIGKILL, &signalled, &denied) == 0);
        /* Of a contained tree the guardian may be the first to reach some. */
        CHECK((contain ? signalled > 0 && signalled <= 3 : signalled == 3) && denied == 0);
        struct pollfd pollfd = {.fd = guardian, .events = POLLIN};
        CHECK(poll(&pollfd, 1, 30000) == 1);
        close(guardian);
        expect(child, CLD_KILLED, SIGKILL);
    }
    nobody_has_noticed();
}

static void *nothing(void *arg)
{
    return arg;
}

static void forks(enum clone_call call)
{
    int *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    for (int i = 0; i < 100; i++) {
        struct failure failure;
        struct child *child = spawner_fork(call, NULL, &failure);
        if (!child) {
            CHECK(failure.error == 0);
            /* All that a process does, in the forked one: memory, stdio, a thread, another start. */
            pthread_t thread;
            void *result;
            char *text = malloc(100000);
            CHECK(text && snprintf(text, 100000, "%d", i) > 0 && atoi(text) == i);
            CHECK(pthread_create(&thread, NULL, nothing, shared) == 0);
            CHECK(pthread_join(thread, &result) == 0 && result == shared);
            expect(try_start(call, "exit 4", NULL, 0, 0), CLD_EXITED, 4);
            ++*shared;
            free(text);
            _exit(i);
        }
        expect(child, CLD_EXITED, i);
        CHECK(*shared == i + 1);
    }
    munmap(shared, sizeof *shared);
    nobody_has_noticed();
}

static void *busy(void *stop)
{
    while (!*(volatile int *)stop) {
        free(malloc(1000 + rand() % 100000));
        fprintf(stdout, "%s", "");
    }
    return NULL;
}

static void *many(void *arg)
{
    for (int i = 0; i < 50; i++) {
        expect(try_start(*(enum clone_call *)arg, "exit 9", NULL, i % 10 == 0, 0), CLD_EXITED, 9);
        CHECK(malloc(1));
    }
    return NULL;
}

static void among_threads(enum clone_call call)
{
    enum { STARTERS = 4, BUSY = 2 };
    pthread_t starters[STARTERS], others[BUSY];
    int stop = 0;
    for (int i = 0; i < BUSY; i++)
        CHECK(pthread_create(&others[i], NULL, busy, &stop) == 0);
    for (int i = 0; i < STARTERS; i++)
        CHECK(pthread_create(&starters[i], NULL, many, &call) == 0);
    for (int i = 0; i < STARTERS; i++)
        pthread_join(starters[i], NULL);
    forks(call);
    *(volatile int *)&stop = 1;
    for (int i = 0; i < BUSY; i++)
        pthread_join(others[i], NULL);
    nobody_has_noticed();
}

int main(void)
{
    CHECK(spawner_init() == 0);
    signal(SIGCHLD, count);
    const enum clone_call calls[] = {CALL_CLONE3, CALL_CLONE};
    for (int i = 0; i < 2; i++) {
        const char *name = calls[i] == CALL_CLONE3 ? "clone3" : "clone";
        starts(calls[i]);
        hears_by_a_hub(calls[i]);
        trees(calls[i]);
        forks(calls[i]);
        among_threads(calls[i]);
        printf("%s: statuses, kills, failures, a hub, trees, forks, threads: as they should be\n", name);
    }
    /* A host that ignores SIGCHLD, and a forked copy by the C library alone. */
    signal(SIGCHLD, SIG_IGN);
    expect(try_start(CALL_CLONE3, "exit 6", NULL, 0, 0), CLD_EXITED, 6);
    signal(SIGCHLD, SIG_DFL);
    pid_t pid = fork();
    if (pid == 0) {
        expect(try_start(CALL_CLONE3, "exit 8", NULL, 0, 0), CLD_EXITED, 8);
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    while (spawner_sweep())
        usleep(1000);
    CHECK(spawner_records() == 0);
    return 0;
}
