"""How a start begins: everything that it needs is opened, then the native spawner runs."""

from .. import _native
from .argument_errors import blame_env
from .cgroup_checks import Cgroup
from .clone3_or_clone import clone_call
from .fd_steps import check_fds
from .hub_of_each_loop import Hub, with_hub
from .options import Request
from .pipe_size import pipe_size
from .program import Program
from .stdio_and_pass_fds import Descriptors
from .steps_before_exec import make_plan

__all__ = ["start", "start_blocking"]


def start(request: Request, descriptors: Descriptors, hub: Hub | None = None) -> Program:
    """Begin to start a program. Returns at once, with the program in the state STARTING.

    Args:
        request: what the caller has asked for.
        descriptors: afterwards it holds our ends of the pipes, and the program. After an error the
            caller aborts it.
        hub: the hub of the loop that will hear of the program.

    Raises:
        OSError, TypeError, ValueError: as `spawn`, except errors of the exec itself.
    """
    clone_call()  # raises before anything is opened
    rest = {**request.options}
    pipesize = pipe_size(rest.pop("pipesize", None))
    passed, close_fds = check_fds(rest.pop("pass_fds", ()), rest.pop("close_fds", True))
    where = rest.pop("cgroup", None)
    descriptors.open(
        (request.stdin, request.stdout, request.stderr),
        passed,
        pipesize,
        where,
        rest.pop("window_size", None),
    )
    cgroup = None
    if descriptors.cgroup is not None:
        cgroup = Cgroup(descriptors.cgroup, None if isinstance(where, int) else where)
        cgroup.check()
        if rest.get("contain"):
            descriptors.hold_kill(cgroup.open_kill())
    plan = make_plan(
        request.command,
        shell=request.shell,
        dups=descriptors.dups,
        pass_fds=passed,
        terminal=min(descriptors.on_terminal, default=None),
        close_fds=close_fds,
        cgroup=cgroup,
        **rest,
    )
    native = None
    try:
        native = with_hub(
            hub,
            _native.spawn,
            plan.private_memory,
            plan.private_table,
            plan.highest,
            plan.contain,
            -1 if cgroup is None else cgroup.fd,
            descriptors.kill,
            tuple([step for _, step in plan.steps]),
            plan.paths,
            plan.argv,
            plan.env,
            descriptors.child_ends,
            descriptors.borrowed,
        )
        descriptors.program = program = Program(native, plan, hub)
    except BaseException as exc:
        if native is not None:
            native.kill()  # a signal handler has raised this
        elif isinstance(exc, (AttributeError, TypeError, ValueError)):
            raise blame_env(exc, plan.env) from None
        raise
    return program


def start_blocking(request: Request, descriptors: Descriptors) -> Program:
    """Start a program, and block until its exec. Raises as `spawn`; and see `start`."""
    program = start(request, descriptors)
    program.wait_started()
    return program
