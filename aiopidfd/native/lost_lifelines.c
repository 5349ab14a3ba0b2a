/* A start whose lifelines the host has closed or replaced is made once more. */
#include "child.h"
#include "lifelines.h"

/* Nothing has run, and the caller has done nothing wrong. So start once more, with lifelines that are
 * ours. */
int start_may_be_repeated(const struct child *child)
{
    if (child->record->failed_step != FAILED_LIFELINES || child->restarted)
        return 0;
    if (child->abandoned || atomic_load(&child->record->kill_requested))
        return 0; /* nobody wants it any more */
    for (size_t i = 0; i < child->record->n_fds; i++)
        if (!fds_are_ours(&child->record->fds[i]))
            return 0; /* the descriptors for the program are gone as well */
    return 1;
}

int start_again(struct child *child)
{
    struct record *record = child->record;
    child->restarted = 1;
    life_doubt(record->life_generation);
    record->error = record->failed_step = 0;
    atomic_store(&record->phase, PHASE_STARTING);
    atomic_store(&record->go, GO_NOT_YET);
    struct failure failure;
    if (start_guardian(child, &failure) < 0) {
        start_go(record, GO_HOME);
        record->error = -failure.error;
        record->failed_step = FAILED_CLONE;
        return 0;
    }
    start_go(record, GO_ON);
    return 1;
}
