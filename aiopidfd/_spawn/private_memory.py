"""Whether the child has a memory map of its own until its exec, or shares ours, as a rule.

The page tables are copied for it, so it costs what a fork() costs: see docs/limits.md.
"""

from .options import Steps

__all__ = ["needs_private_memory"]


def needs_private_memory(ids: Steps, oom_score_adj: int | None) -> bool:
    """Whether any option would do something to all that share our memory, and so to us.

    A change of ids would make us undumpable, and would put a less privileged process into our
    memory (ptrace(2), prctl(2) PR_SET_DUMPABLE). And oom_score_adj holds for all that share the
    memory, if the guardian is killed just then (fs/proc/base.c, __set_oom_adj()).

    Args:
        ids: the steps that change the child's ids.
        oom_score_adj: the option of that name.
    """
    return bool(ids) or oom_score_adj is not None
