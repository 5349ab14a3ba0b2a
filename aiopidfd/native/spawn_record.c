/* Makes and frees records. The functions may be called with or without the spawner's lock. */
#define _GNU_SOURCE
#include "child.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The deepest frames of what runs after the clone together stay far below this. setup.py makes the compiler
 * refuse a frame of over 1 KiB there. No signal handler runs on this stack, and nothing recurses. */
enum { STACK_SIZE = 4096, ALIGNMENT = 16 };

static atomic_int n_records;

static size_t aligned(size_t size)
{
    return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

/* A record's blocks come from the heap, whose pages mostly exist already. Fresh pages would be faulted in
 * while the caller waits. In a build with RECORD_FENCE each block has a mapping of its own, which is never
 * given back and becomes unreadable when the block is freed. So any later use of the block crashes. */
#ifdef RECORD_FENCE
static void *block_new(size_t size)
{
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

static void block_free(void *block, size_t size)
{
    mprotect(block, size, PROT_NONE);
}
#else
static void *block_new(size_t size)
{
    return malloc(size);
}

static void block_free(void *block, size_t size)
{
    (void)size;
    free(block);
}
#endif

/* Each of the functions below is called twice. With `copy` NULL it only counts the bytes. */

static size_t put_strings(char *copy, const char *const *strings)
{
    size_t n = 0;
    while (strings[n])
        n++;
    char **vector = (char **)copy;
    size_t used = (n + 1) * sizeof(char *);
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(strings[i]) + 1;
        if (copy) {
            memcpy(copy + used, strings[i], length);
            vector[i] = copy + used;
        }
        used += length;
    }
    if (copy)
        vector[n] = NULL;
    return aligned(used);
}

static size_t put_steps(char *copy, const struct plan *plan)
{
    struct step *steps = (struct step *)copy;
    size_t used = aligned(plan->n_steps * sizeof *steps);
    for (size_t i = 0; i < plan->n_steps; i++) {
        const struct plan_step *from = &plan->steps[i];
        if (copy)
            steps[i].nr = from->nr;
        for (int a = 0; a < 5; a++) {
            if (copy)
                steps[i].arg[a] = from->data[a] ? (long)(intptr_t)(copy + used) : from->arg[a];
            if (copy && from->data[a])
                memcpy(copy + used, from->data[a], from->size[a]);
            if (from->data[a])
                used += aligned(from->size[a]);
        }
    }
    return used;
}

/* A child with a memory map of its own reports through pages that both maps share. */
static struct record *new_first_block(const struct plan *plan)
{
    size_t size = STACK_SIZE + aligned(sizeof(struct record));
    char *block;
    if (plan->private_memory) {
        block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED)
            return NULL;
    } else {
        block = block_new(size);
        if (!block)
            return NULL;
        memset(block + STACK_SIZE, 0, sizeof(struct record));
    }
    struct record *record = (struct record *)(block + STACK_SIZE);
    record->size = size;
    record->private_memory = plan->private_memory;
    record->guardian_stack = block;
    record->stack_size = STACK_SIZE;
    atomic_fetch_add(&n_records, 1);
    return record;
}

struct record *record_new(struct child *child, const struct plan *plan)
{
    struct record *record = child->record = new_first_block(plan);
    if (!record)
        return NULL;
    size_t steps = put_steps(NULL, plan), paths = put_strings(NULL, plan->paths);
    size_t argv = put_strings(NULL, plan->argv), envp = put_strings(NULL, plan->envp);
    record->child_size = STACK_SIZE + steps + paths + argv + envp;
    char *cursor = record->child_stack = child->child_block = block_new(record->child_size);
    if (!cursor)
        return NULL; /* the first block is freed with the child */
    cursor += STACK_SIZE;
    put_steps(cursor, plan);
    record->n_steps = plan->n_steps;
    record->steps = (struct step *)cursor;
    put_strings(cursor += steps, plan->paths);
    record->paths = (char *const *)cursor;
    put_strings(cursor += paths, plan->argv);
    record->argv = (char *const *)cursor;
    put_strings(cursor += argv, plan->envp);
    record->envp = (char *const *)cursor;

    record->call = plan->call;
    record->private_table = plan->private_table;
    record->contain = plan->contain;
    record->kill_fd = plan->kill_fd;
    record->cgroup = plan->cgroup;
    record->event_fd = record->guardian_fd = record->child_pidfd = record->stillborn_pidfd = -1;
    record->starting = &starts_under_way;
    return record;
}

/* Nothing is written to the record: a forked copy may share it with us and our guardian, but it has the
 * second block for itself. */
void record_free_child_block(struct child *child)
{
    if (child->child_block)
        block_free(child->child_block, child->record->child_size);
    child->child_block = NULL;
}

void record_free(struct child *child)
{
    struct record *record = child->record;
    if (!record)
        return;
    record_free_child_block(child);
    child->record = NULL;
    atomic_fetch_sub(&n_records, 1);
    if (record->fork_stack)
        munmap(record->fork_stack, record->fork_stack_size);
    if (record->private_memory)
        munmap(record->guardian_stack, record->size);
    else
        block_free(record->guardian_stack, record->size);
}

int spawner_records(void)
{
    return atomic_load(&n_records);
}
