/* What becomes of children when this process forks: a copy of it owns none of them. And the lock, which a fork
 * must hold. */
#define _GNU_SOURCE
#include "child.h"
#include "lifelines.h"
#include "reserved_numbers.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_mutex_t mutex;

static void make_mutex(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

/* One byte that reads 0 in a copy of this process, however the copy was made. Otherwise it has one of the
 * values below. */
static char *not_a_copy;
enum { ORIGINAL = 1, COPY_WITH_A_LOCK = 2 };

void spawner_lock(void)
{
    if (not_a_copy && !*not_a_copy) { /* another thread may have held the lock when the copy was made */
        make_mutex();
        *not_a_copy = COPY_WITH_A_LOCK;
    }
    pthread_mutex_lock(&mutex);
}

void spawner_unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

static void disown(struct child *child, int close)
{
    if (close) {
        struct record *record = child->record;
        /* These pidfds were installed but not collected yet. The table was copied a moment before the memory.
         * So make sure that the numbers are pidfds in this process too. */
        if (child->state == CHILD_STARTING && record) {
            int born = child_was_born(record) ? record->child_pidfd : -1;
            struct owned stillborn = {.fd = child_stillborn_pidfd(record)};
            if (child_born_is_ours(record, child->guardian_pid, born))
                SYS(__NR_close, born);
            child_close_pidfd(&stillborn, 0);
        }
        if (record && !child->guardian_reaped)
            child->guardian.identity = record->guardian_identity;
        child_close_pidfd(&child->pidfd, child->pid);
        child_close_pidfd(&child->guardian, child->guardian_pid);
        for (size_t i = 0; i < child->n_fds; i++)
            fds_close(&child->fds[i]);
    }
    child->pidfd.fd = child->guardian.fd = -1;
    child->n_fds = 0;
    child->starts = 0;
    child->n_blocked = 0;
    child->state = CHILD_FOREIGN; /* its memory is freed with its handle, or by the next sweep */
}

static void become_copy(int close)
{
    for (struct link *link = all_children.next; link != &all_children; link = link->next)
        disown(link->child, close);
    atomic_store(&starts_under_way, 0);
    list_init(&children_behind);
    for (struct link *link = all_children.next; link != &all_children; link = link->next) {
        link->child->behind.next = NULL;
        if (link->child->abandoned)
            list_append(&children_behind, &link->child->behind, link->child);
    }
    if (close) {
        life_drop();
        reserve_drop();
    } else {
        life_forget();
        reserve_forget();
    }
    hubs_drop(close);
    start_forget_threads();
    if (not_a_copy)
        *not_a_copy = ORIGINAL;
}

void spawner_check_copy(void)
{
    if (not_a_copy && *not_a_copy != ORIGINAL)
        become_copy(0);
}

static void before_fork(void)
{
    spawner_lock();
}

static void after_fork_in_parent(void)
{
    spawner_unlock();
}

static void after_fork_in_child(void)
{
    make_mutex();
    become_copy(1);
}

static int init_error;

static void init(void)
{
    make_mutex();
    list_init(&all_children);
    list_init(&children_behind);
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    not_a_copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (not_a_copy == MAP_FAILED) {
        not_a_copy = NULL;
        init_error = -ENOMEM;
        return;
    }
    madvise(not_a_copy, size, MADV_WIPEONFORK); /* Linux 4.14 */
    *not_a_copy = ORIGINAL;
    init_error = -pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

int spawner_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init);
    return init_error;
}
