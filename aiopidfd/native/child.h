/* A child as the spawner's own files see it. spawner.h has what all other files see. */
#ifndef AIOPIDFD_CHILD_H
#define AIOPIDFD_CHILD_H

#include "fd_identity.h"
#include "spawn_record.h"
#include "spawner.h"
#include "wait_readable.h"

#include <time.h>

/* A list of children: a ring with a head. A child is in as many lists as it has links. `next` is NULL while
 * the link is in no list. */
struct link {
    struct child *child;
    struct link *next, *previous;
};

struct hub {
    struct owned epoll, event;
    struct link asked;    /* children whose guardian will write to the eventfd */
    struct link news;     /* children that hub_collect() has to name */
    int n_starting;       /* children whose guardian is not known to hold the eventfd itself */
    int n_children;
    int released;
    int is_lost;          /* the host has closed its descriptors */
    int was_checked;      /* a moment ago: it is not checked again */
    struct hub *next;
};

struct child {
    enum child_state state;
    uint64_t id;
    struct hub *hub;
    int pid;             /* the program's; 0 until RUNNING */
    int guardian_pid;
    struct owned pidfd;    /* the program's */
    struct owned guardian; /* the guardian's pidfd; until it is reaped */
    int guardian_reaped;
    struct record *record; /* until the guardian has left our memory */
    char *child_block;     /* the record's second block, until the child has left our memory */
    int error, failed_step;
    int code, status;
    int has_usage;
    struct rusage usage;
    struct owned *fds;   /* handed over to us; closed when the program has its copies. Behind them: borrowed */
    size_t n_fds;        /* those that were handed over */
    int abandoned;
    int restarted;       /* the start was repeated, with new lifelines; that is done once */
    int n_blocked;       /* threads that sleep on the record */
    int starts;          /* counted in starts_under_way */
    int is_unwatched;    /* the hub cannot watch its pidfd: the loop looks again and again */
    struct timespec lost_since; /* when we found the guardian dead, without knowing whether the child was
                                   born */
    struct link all;     /* of all children */
    struct link behind;  /* of the children that a later start looks after */
    struct link asked, news; /* of the hub */
    enum child_state told;   /* the state in which hub_collect() last reported it */
};

/* ---- The lock (forked_copies.c) ----
 * There is one lock for all children, lists, hubs, lifelines and low numbers. Nothing blocks while it is
 * held. The thread that holds it may take it again: a signal handler that forks takes it in the at-fork
 * handler. */

void spawner_lock(void);
void spawner_unlock(void);

/* Checks whether this process is a copy of the one that made its children, and the at-fork handlers did not
 * run (a raw clone, _Fork(3)). If so, all children are FOREIGN from now on. Makes no system call. */
void spawner_check_copy(void);

/* The number of starts that are under way in this process. exec_when_busy.c reads it. */
extern atomic_int starts_under_way;

/* ---- Lists (child_table.c) ---- */

extern struct link all_children, children_behind; /* behind: a later start looks after them */

void list_init(struct link *list);
void list_append(struct link *list, struct link *link, struct child *child); /* unless it is in a list */
void list_remove(struct link *link);

/* ---- child_table.c ---- */

struct child *child_new(struct hub *hub);
void child_free(struct child *child);      /* closes all that it still holds */
struct child *child_find(uint64_t id);     /* or NULL */
void child_end_start(struct child *child); /* it is not STARTING any more, or never was */
void child_close_handed_over(struct child *child);

/* ---- reopen_pidfds.c ---- */

int child_pidfd_is_ours(const struct owned *pidfd, int pid);
int child_born_is_ours(const struct record *record, int guardian_pid, int fd);
void child_close_pidfd(struct owned *pidfd, int pid);
int child_hold_program(struct child *child);   /* 0: we hold its pidfd, or have opened it again; or -errno */
int child_hold_guardian(struct child *child);  /* the same for its guardian, which is not reaped yet */
void child_look_after_pidfds(void);            /* opens some again, if the host has closed them */

/* ---- wake_guardian.c ---- */

void child_wake_guardian(struct child *child);

/* ---- children_left_behind.c ---- */

int child_is_over(const struct child *child); /* nothing of it will ever change any more */
void child_after_news(struct child *child);   /* puts it into the lists where it belongs; may free it */
void child_sweep(void);                       /* looks after some of the children that are behind */

/* ---- spawn_record.c ---- */

struct record *record_new(struct child *child, const struct plan *plan); /* the child's record, or NULL */
void record_free(struct child *child);
void record_free_child_block(struct child *child);

/* ---- free_record.c ---- */

int guardian_has_left_memory(const struct child *child);
void record_free_when_left(struct child *child);

/* ---- start.c, clone_guardian.c ---- */

const char *refused_call(int step); /* which call it was that `failed_step` means, or NULL */
int start_guardian(struct child *child, struct failure *failure); /* 0 or -errno; it waits to begin */
void start_go(struct record *record, int go);
void start_forget_threads(void);

/* ---- lost_lifelines.c ---- */

int start_may_be_repeated(const struct child *child);
int start_again(struct child *child);

/* ---- child_state.c ---- */

void child_advance(struct child *child);
void child_collect_start(struct child *child);
void child_fail(struct child *child, int error, int failed_step);

/* ---- guardian_killed_in_start.c, orphan_exit.c ---- */

int child_was_born(const struct record *record);
int child_stillborn_pidfd(const struct record *record);
void child_close_stillborn(struct record *record);
void child_collect_lost_start(struct child *child);
void child_collect_orphan(struct child *child);

/* ---- reap_guardian.c ---- */

void child_reap_guardian(struct child *child); /* if it has ended */
void child_reap_guardians_before_exec(void);

/* ---- hub.c ---- */

int hub_watch(struct child *child, int fd, int is_program, struct failure *failure);
void hub_watch_program(struct child *child);
void hub_watch_without_event(struct child *child);
void hub_add_news(struct child *child);
void hub_leave(struct child *child);
void hub_after_start(struct child *child);
void hubs_drop(int close); /* in a forked copy */

#endif
