"""A command and its options, checked and turned into the system calls that the child makes.

Between clone and exec the child makes only system calls, which are a list: an option is a step or
two in it (cwd and umask here, the others in files of their own), and if a step fails, its index
tells the option. The order of the steps, and the messages of errors that subprocess has too, are
those of subprocess.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .. import _native
from .._pidfd.arguments import flag, integer
from .argument_errors import encode
from .cgroup_checks import Cgroup
from .command import read_command
from .containment_checks import check_containment
from .die_with_parent import die_steps
from .fd_steps import close_steps, dup_step, is_beyond_limit
from .ids import id_steps
from .no_new_privs import no_new_privs_steps
from .options import Command, Env, Steps, StrOrBytesPath
from .plan import Plan
from .priorities import priority_steps
from .private_memory import needs_private_memory
from .restore_signals import RESTORE_SIGNALS
from .rlimits import rlimit_steps
from .session_and_group import session_steps

__all__ = ["make_plan"]

_MAX_MASK = 0o777  # umask(2) ignores the rest


def make_plan(
    command: Command,
    *,
    shell: bool,
    dups: Sequence[tuple[int, int]],
    pass_fds: frozenset[int],
    cgroup: Cgroup | None = None,
    terminal: int | None = None,
    close_fds: bool = True,
    executable: StrOrBytesPath | None = None,
    env: Env | None = None,
    **options: Any,
) -> Plan:
    """Check a command and its options, and lay out the steps of its child.

    Args:
        command: one string or path, or a sequence of them.
        shell: whether `/bin/sh -c` runs it.
        dups: pairs (descriptor of ours, number in the child). No descriptor of ours may be another
            one's number in the child.
        pass_fds: what else stays open in the child, under the same number as here.
        cgroup: the cgroup that the program is put into.
        terminal: the child's descriptor for what will be its controlling terminal.
        close_fds, executable, env: as in subprocess.Popen.
        options: those of `_ask`.

    Raises:
        TypeError, ValueError: bad arguments, with subprocess's own messages.
    """
    cwd = options.get("cwd")
    executed, args, paths, argv = read_command(command, shell, executable, cwd, env)

    steps = [dup_step(source, target) for source, target in dups]
    if close_fds:  # first of all: until then the child's table has the lower numbers of ours
        steps += close_steps(pass_fds)
    asked = _ask(terminal, **options) if options or terminal is not None else _NOTHING_ASKED
    steps += asked.steps
    return Plan(
        executable=executed,
        args=args,
        paths=paths,
        argv=argv,
        env=env,
        cwd=cwd,
        steps=steps,
        private_memory=asked.private_memory,
        private_table=not close_fds,
        highest=max(filter(is_beyond_limit, pass_fds), default=0) if pass_fds else 0,
        contain=asked.contain,
        cgroup=cgroup,
    )


class _Asked(NamedTuple):
    """The results of the options that are steps, in the order of the steps."""

    steps: Steps
    private_memory: bool
    contain: bool


_NOTHING_ASKED = _Asked(RESTORE_SIGNALS, False, False)


def _ask(
    terminal: int | None,
    *,
    cwd: StrOrBytesPath | None = None,
    user: str | int | None = None,
    group: str | int | None = None,
    extra_groups: Iterable[str | int] | None = None,
    umask: int = -1,
    start_new_session: bool = False,
    process_group: int | None = None,
    restore_signals: bool = True,
    rlimits: Mapping[str | int, int | tuple[int, int]] | None = None,
    nice: int | None = None,
    cpu_affinity: Iterable[int] | None = None,
    scheduler: tuple[int, int] | None = None,
    ioprio: tuple[int, int] | None = None,
    oom_score_adj: int | None = None,
    no_new_privs: bool = False,
    die_with_parent: bool | int = False,
    contain: bool = False,
) -> _Asked:
    """Handle the options of Popen, and ours. Raises TypeError and ValueError."""
    steps: Steps = []
    if cwd is not None:
        steps.append(("cwd", (_native.SYS_chdir, encode(cwd, "the option cwd"))))
    if integer("umask", umask) > _MAX_MASK:
        raise ValueError(f"umask must be at most 0o777, not {umask:#o}")
    if umask >= 0:
        steps.append(("umask", (_native.SYS_umask, umask)))
    if flag("restore_signals", restore_signals):
        steps += RESTORE_SIGNALS
    steps += session_steps(start_new_session, terminal, process_group)
    # These steps come before the change of ids, because they may need what the present ids allow.
    steps += priority_steps(nice, cpu_affinity, scheduler, ioprio, oom_score_adj)
    steps += rlimit_steps(rlimits)
    ids = id_steps(user, group, extra_groups)
    steps += ids
    # These come after the change of ids, which would undo the second (PR_SET_PDEATHSIG(2const)).
    if flag("contain", contain):
        check_containment()
    if die_with_parent in (None, False):  # and 0
        die_with_parent = bool(contain)
    steps += no_new_privs_steps(no_new_privs)
    steps += die_steps(die_with_parent)
    return _Asked(steps, needs_private_memory(ids, oom_score_adj), bool(contain))
