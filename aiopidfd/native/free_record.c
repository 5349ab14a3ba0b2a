/* When a record may be freed: the guardian's stack and data are in it, and the child's until its exec. The kernel
 * says when both have left our memory (CLONE_CHILD_CLEARTID); no descriptor is asked. */
#include "child.h"

/* Whether the guardian can never touch our memory again. The kernel says so in `alive`, whatever killed the
 * guardian. The exception is a guardian that dumps core before Linux 5.16: then we know it when the guardian
 * is reaped. */
int guardian_has_left_memory(const struct child *child)
{
    return atomic_load(&child->record->alive) == 0 || child->guardian_reaped;
}

/* Call it when the guardian has left. It is checked again here, because a new guardian may have taken its place:
 * see start_again(). */
void record_free_when_left(struct child *child)
{
    struct record *record = child->record;
    if (!record || child->n_blocked || child->state == CHILD_STARTING)
        return;
    int child_is_inside = child_was_born(record) && atomic_load(&record->inside);
    if (guardian_has_left_memory(child) && !child_is_inside)
        record_free(child);
}
