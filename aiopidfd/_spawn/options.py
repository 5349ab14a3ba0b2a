"""What a caller may ask for: a command, its three streams and its options.

Each public function that starts a program makes a `Request` at once and hands it down whole.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any, Final, Literal, NamedTuple, Protocol, TypeAlias, TypedDict

from .._pidfd.arguments import HasFileno
from .refused_keywords import refuse

__all__ = [
    "Command",
    "Env",
    "Options",
    "OutputChoice",
    "PipelineOptions",
    "Request",
    "RunOptions",
    "StartOptions",
    "Stdio",
    "Step",
    "Steps",
    "StrOrBytesPath",
    "SuperviseOptions",
    "make_request",
]

StrOrBytesPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
Command: TypeAlias = StrOrBytesPath | Sequence[StrOrBytesPath]
Env: TypeAlias = Mapping[str, StrOrBytesPath] | Mapping[bytes, StrOrBytesPath]

# What an option becomes: system calls of the child, before its exec (steps_before_exec.py).
Step: TypeAlias = tuple[int | bytes, ...]  # the call's number, and its arguments
Steps: TypeAlias = list[tuple[str, Step]]  # each with the option that asked for it

Stdio: TypeAlias = int | IO[Any] | HasFileno | None


class HasDrain(Protocol):
    """An `asyncio.StreamWriter`, or another object that is written to in the same way."""

    def write(self, data: Any, /) -> object:
        """Write `data`."""

    async def drain(self) -> None:
        """Wait until there is room for more."""


# What an output may be where we carry it: also a function, a stream, or a list of all these.
OutputChoice: TypeAlias = Stdio | Callable[[Any], object] | HasDrain | Sequence[Any]


class Options(TypedDict, total=False):
    """The keyword options of every function that starts a program.

    Where `subprocess.Popen` has an option of the same name, the meaning is the same. An option that
    the kernel refuses raises OSError with the option's name in its text; bad values raise TypeError
    or ValueError before anything is started. The manual's page options has the order in which they
    are applied.

    Attributes:
        executable: The file that is executed, if it is not the first argument; with a shell, the
            shell.
        cwd: The program's working directory (chdir(2)). An error has it as its `filename`.
        env: The program's whole environment. None: it inherits ours, as it is in C at the call.
        user: The user that it runs as, by name or number (setreuid(2)). KeyError: no such name.
        group: The group that it runs as, by name or number (setregid(2)). KeyError: no such name.
        extra_groups: All of its supplementary groups, by name or number (setgroups(2)).
        umask: The mask for the files that it makes, up to 0o777 (umask(2)). Negative, the default:
            ours.
        start_new_session: Whether it leads a session of its own, without a controlling terminal
            (setsid(2)).
        process_group: The process group that it joins (setpgid(2)); 0: one of its own. None: ours.
        restore_signals: Whether SIGPIPE and SIGXFSZ, which Python ignores, are at their defaults.
            Default: True.
        close_fds: Whether all descriptors but 0, 1, 2 and those of `pass_fds` are closed. Default:
            True.
        pass_fds: Descriptors of ours that it inherits, under the same numbers. OSError EBADF: not
            open.
        pipesize: Bytes that each PIPE holds (fcntl(2), F_SETPIPE_SZ). Negative, the default: as it
            is.
        cgroup: A cgroup (version 2) that it is born in: its directory's path or descriptor (Linux
            5.7).
        window_size: (rows, columns) of the terminal that PTY asks for, each from 0 to 65535
            (ioctl_tty(2)).
        rlimits: Resource limits (setrlimit(2)): a name such as "NOFILE", to both limits or (soft,
            hard).
        nice: Its nice value itself, not a difference (setpriority(2)): from -20 to 19.
        cpu_affinity: The numbers of the processors that it may run on (sched_setaffinity(2)).
        scheduler: (policy, priority): `os.SCHED_*`, and 0 or a realtime priority
            (sched_setscheduler(2)).
        ioprio: (class, level) for the I/O scheduler (ioprio_set(2)): class 1 to 3, level 0 to 7.
        oom_score_adj: How eagerly the OOM killer takes it, from -1000 to 1000
            (proc_pid_oom_score_adj(5)).
        no_new_privs: Whether no later exec of it can gain privileges (PR_SET_NO_NEW_PRIVS(2const)).
        die_with_parent: A signal that it gets when this process ends or execs; True is SIGKILL.
            Default: False.
        contain: Whether all that it has started is killed when it has exited, or this process has.
    """

    executable: StrOrBytesPath | None
    """The file that is executed, if it is not the first argument; with a shell, the shell."""
    cwd: StrOrBytesPath | None
    """The program's working directory (chdir(2)). An error has it as its `filename`."""
    env: Env | None
    """The program's whole environment. None: it inherits ours, as it is in C at the call."""
    user: str | int | None
    """The user that it runs as, by name or number (setreuid(2)). KeyError: no such name."""
    group: str | int | None
    """The group that it runs as, by name or number (setregid(2)). KeyError: no such name."""
    extra_groups: Iterable[str | int] | None
    """All of its supplementary groups, by name or number (setgroups(2))."""
    umask: int
    """The mask for the files that it makes, up to 0o777 (umask(2)). Negative, the default: ours."""
    start_new_session: bool
    """Whether it leads a session of its own, without a controlling terminal (setsid(2))."""
    process_group: int | None
    """The process group that it joins (setpgid(2)); 0: one of its own. None: ours."""
    restore_signals: bool
    """Whether SIGPIPE and SIGXFSZ, which Python ignores, are at their defaults. Default: True."""
    close_fds: bool
    """Whether all descriptors but 0, 1, 2 and those of `pass_fds` are closed. Default: True."""
    pass_fds: Iterable[int]
    """Descriptors of ours that it inherits, under the same numbers. OSError EBADF: not open."""
    pipesize: int
    """Bytes that each PIPE holds (fcntl(2), F_SETPIPE_SZ). Negative, the default: as it is."""
    cgroup: StrOrBytesPath | int | None
    """A cgroup (version 2) that it is born in: its directory's path or descriptor (Linux 5.7)."""
    window_size: tuple[int, int] | None
    """(rows, columns) of the terminal that PTY asks for, each from 0 to 65535 (ioctl_tty(2))."""
    rlimits: Mapping[str | int, int | tuple[int, int]] | None
    """Resource limits (setrlimit(2)): a name such as "NOFILE", to both limits or (soft, hard)."""
    nice: int | None
    """Its nice value itself, not a difference (setpriority(2)): from -20 to 19."""
    cpu_affinity: Iterable[int] | None
    """The numbers of the processors that it may run on (sched_setaffinity(2))."""
    scheduler: tuple[int, int] | None
    """(policy, priority): `os.SCHED_*`, and 0 or a realtime priority (sched_setscheduler(2))."""
    ioprio: tuple[int, int] | None
    """(class, level) for the I/O scheduler (ioprio_set(2)): class 1 to 3, level 0 to 7."""
    oom_score_adj: int | None
    """How eagerly the OOM killer takes it, from -1000 to 1000 (proc_pid_oom_score_adj(5))."""
    no_new_privs: bool
    """Whether no later exec of it can gain privileges (PR_SET_NO_NEW_PRIVS(2const))."""
    die_with_parent: bool | int
    """A signal that it gets when this process ends or execs; True is SIGKILL. Default: False."""
    contain: bool
    """Whether all that it has started is killed when it has exited, or this process has."""


class StartOptions(Options, total=False):
    """What `create_subprocess_exec` and `create_subprocess_shell` take beside the text's keywords.

    See these functions. This is a type only.
    """

    stdin: Stdio
    stdout: Stdio
    stderr: Stdio
    limit: int
    grace: float | None


class RunOptions(Options, total=False):
    """What `run_process` takes beside its input and the text's keywords. See there. A type only."""

    stdin: Stdio
    stdout: OutputChoice
    stderr: OutputChoice
    on_output: Callable[[str, Any], object] | None
    check: bool
    timeout: float | None
    idle_timeout: float | None
    shell: bool | None
    grace: float
    drain: float | None


class PipelineOptions(Options, total=False):
    """What `run_pipeline` takes beside its input and the text's keywords. See there. A type only.

    The keywords of `Options` apply to each of the programs.
    """

    stdin: Stdio
    stdout: OutputChoice
    stderr: OutputChoice
    output_limit: int | None
    on_limit: Literal["raise", "head", "tail"]
    check: bool
    timeout: float | None
    idle_timeout: float | None
    grace: float
    drain: float | None


class SuperviseOptions(Options, total=False):
    """What `start_in` and `supervise` take. See there. A type only."""

    input: bytes | str | None
    stdin: Stdio
    stdout: OutputChoice
    stderr: OutputChoice
    on_output: Callable[[str, Any], object] | None
    check: bool
    idle_timeout: float | None
    grace: float
    drain: float | None
    text: bool | None
    encoding: str | None
    errors: str | None


_NAMES: Final = frozenset(Options.__annotations__)


class Request(NamedTuple):
    """A command, its streams and its options, as a caller has asked for them.

    Attributes:
        command: one string or path, or a sequence of them.
        shell: whether `/bin/sh -c` runs it.
        stdin, stdout, stderr: None to inherit, PIPE, PTY, DEVNULL, STDOUT, a descriptor, or a file.
        options: those of `Options`, and no others.
    """

    command: Command
    shell: bool = False
    stdin: Stdio = None
    stdout: Stdio = None
    stderr: Stdio = None
    options: Mapping[str, Any] = MappingProxyType({})


def make_request(
    function: Callable[..., object],
    command: Command,
    shell: bool,
    stdio: tuple[Stdio, Stdio, Stdio],
    options: dict[str, Any],
) -> Request:
    """Make the request for which a public function was called.

    Args:
        function: the public function. An error proposes the keywords that this function takes.
        command, shell, stdio: see `Request`.
        options: all other keywords that the function was given.

    Raises:
        TypeError: a keyword that the function does not take; or `shell` is no bool.
        ValueError: a parameter of subprocess.Popen that is not supported.
    """
    if not isinstance(shell, int):  # Popen would take a shell's path for True, and run /bin/sh
        kind = type(shell).__name__
        raise TypeError(f"shell must be True or False, not {kind}; `executable` names the shell")
    if not options.keys() <= _NAMES:
        options = refuse(function, options, _NAMES)
    return Request(command, shell, *stdio, options)
