"""The descriptors of the child: what each stdio choice opens, and who closes it.

Everything that the child will have open is opened or duplicated here, at the time of the call. So
errors come before anything starts, and if another task closes a descriptor while the program is
being started, the program still has it. Only a file with record locks is not duplicated: they
would be lost when the duplicate is closed (fcntl(2)).
"""

import contextlib
import errno
import inspect
import io
import os
import sys
from collections.abc import Collection, Iterable
from subprocess import DEVNULL, PIPE, STDOUT
from typing import TYPE_CHECKING, Any

from .._pidfd.arguments import integer, is_number
from .argument_errors import named, open_first
from .fds_above_stdio import (
    FIRST,
    above_stdio,
    duplicate,
    epoll_above_stdio,
    pipe_above_stdio,
)
from .open_terminal import PTY, check_window_size, open_terminal, set_window_size
from .options import Stdio, StrOrBytesPath
from .pipe_size import set_pipe_size
from .record_locks import has_record_locks
from .tree import kill_now

if TYPE_CHECKING:
    from .._pidfd.unpatched import epoll
    from .program import Program

__all__ = ["NO_STREAM", "Descriptors", "descriptor_of"]

NO_STREAM = (
    "{name} cannot be a stream that we read or write ourselves ({kind}): run_pipeline() connects "
    "programs, and os.pipe() makes a pipe for two of them"
)

_INSTEAD_OF_STDIN = "make it PIPE, or give its content as `input`"
_INSTEAD_OF_OUTPUT = "make it PIPE; run_process(), supervise() and run_pipeline() also take [file]"

_NAMES = ("stdin", "stdout", "stderr")


class Descriptors:
    """What a start holds open. Whoever makes this calls `close` at the end, or `abort` on an error.

    Both must be called inside of the `try` that has the call of `abort`: a signal handler may raise
    its exception anywhere, and then no program may run on that nobody knows.

    Attributes:
        ours: our ends of the pipes to stdin, stdout and stderr, or None; for the streams.
        on_terminal: those of 0, 1, 2 whose choice is PTY. If both outputs are PTY, the first one
            has our end.
        taken: descriptors of `child_ends` that a stdio choice may name: they are not duplicated.
        terminal: one more duplicate of the terminal's master, or None.
        watches: epoll sets for the streams of a terminal. They are made here, because after the
            exec it would be too late for EMFILE.
        child_ends: the descriptors of ours that the child gets copies of. The native spawner
            empties this list when it takes them over.
        program: what was started with these, if anything was.
        borrowed: the caller's own descriptors that the child gets copies of; they stay open.
        dups: pairs (descriptor of ours, number in the child), for the plan.
        cgroup: the directory of the child's cgroup, or None. It is one of `child_ends`.
        kill: the file by which the guardian kills all of that cgroup, or -1. It is one of
            `child_ends`.
    """

    __slots__ = (
        "borrowed",
        "cgroup",
        "child_ends",
        "dups",
        "kill",
        "on_terminal",
        "ours",
        "program",
        "taken",
        "terminal",
        "watches",
    )

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.ours: list[int | None] = [None, None, None]
        self.on_terminal: tuple[int, ...] = ()
        self.terminal: int | None = None
        self.watches: list[epoll] = []
        self.dups: list[tuple[int, int]] = []
        self.child_ends: list[int] = []
        self.borrowed: list[int] = []
        self.cgroup: int | None = None
        self.kill: int = -1
        self.taken: tuple[int, ...] = ()
        self.program: Program | None = None

    def take(self, fds: Collection[int]) -> dict[int, int]:
        """Take over descriptors that are for the child alone; they are closed even after an error.

        Returns:
            For each of them, the number that names it as a stdio choice.

        Raises:
            OSError: EMFILE.
        """
        self.child_ends += fds
        numbers = {fd: fd if fd >= FIRST else self._duplicate(fd, "stdin") for fd in fds}
        self.taken = tuple(numbers.values())
        return numbers

    def open(
        self,
        stdio: tuple[Stdio, Stdio, Stdio],
        pass_fds: Iterable[int],
        pipesize: int,
        cgroup: StrOrBytesPath | int | None,
        window_size: Any,
    ) -> None:
        """Open or duplicate everything.

        Raises:
            OSError: EBADF for a descriptor that is not open; EMFILE, ENFILE; the errors of open(2)
                for the cgroup's path; ENOSPC for a terminal.
            ValueError: STDOUT for anything but stderr; a window size that is not valid, or without
                PTY.
            TypeError: something that is neither a choice nor a file.
        """
        choices = {target: choice for target, choice in enumerate(stdio) if choice is not None}
        if not choices and not pass_fds and cgroup is None and window_size is None:
            return  # the program inherits ours
        if STDOUT in stdio[:2]:
            raise ValueError("STDOUT can only be used for stderr")
        self.on_terminal = tuple([target for target, choice in choices.items() if choice == PTY])
        if window_size is not None:
            window_size = check_window_size(window_size)
            if not self.on_terminal:
                raise ValueError("window_size needs PTY for stdin, stdout or stderr")
        sources: dict[int, int] = {}
        # First come the descriptors that must be open already: a number that is not open must not
        # be given to one of our pipes before it is looked at.
        for target, choice in choices.items():
            if choice in self.taken:
                sources[target] = choice
            elif choice not in (PIPE, DEVNULL, STDOUT, PTY):
                name = _NAMES[target]
                fd = descriptor_of(name, choice)
                # The numbers in the child are filled in ascending order.
                stays = fd >= target or fd not in choices or sources.get(fd) == fd
                sources[target] = self._source(fd, name, stays)
        for fd in pass_fds:
            if fd not in choices:
                sources[fd] = self._source(fd, "pass_fds")
        if cgroup is not None:
            self.cgroup = self._directory(cgroup, "cgroup")
        for target, choice in choices.items():
            if choice == PIPE:
                sources[target] = self._pipe(target, pipesize)
            elif choice == DEVNULL:
                sources[target] = self._null()
        if self.on_terminal:
            slave = self._terminal(window_size)
            sources.update(dict.fromkeys(self.on_terminal, slave))
        if choices.get(2) == STDOUT:
            sources[2] = sources[1] if 1 in sources else self._source(_our_stdout(), "stderr")
        self.dups = [(sources[target], target) for target in sorted(sources)]

    def hold_kill(self, fd: int | None) -> None:
        """Take over a descriptor as `kill`."""
        if fd is not None:
            self.kill = above_stdio(fd)
            self.child_ends.append(self.kill)

    @property
    def reads_terminal(self) -> bool:
        """Whether one of the outputs is PTY."""
        return 1 in self.on_terminal or 2 in self.on_terminal

    def hand_over(self, number: int) -> int | None:
        """Hand over our end of the pipe to stdin (0), stdout (1) or stderr (2) to the caller."""
        fd, self.ours[number] = self.ours[number], None
        return fd

    def hand_over_terminal(self) -> int | None:
        """Hand over our own duplicate of the terminal's master to the caller."""
        fd, self.terminal = self.terminal, None
        return fd

    def abort(self) -> None:
        """Kill the program and all that it has started, if there is one; then `close`."""
        if self.program is not None:
            kill_now(self.program)  # first: the program must not read the end of file
        self.close()

    def close(self) -> None:
        """Close what was not handed over."""
        for fd in (*self.child_ends, self.terminal, *self.ours):
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)
        self.child_ends.clear()
        self.terminal, self.ours = None, [None, None, None]
        for watch in self.watches:
            watch.close()
        self.watches.clear()

    def _null(self) -> int:
        fd = above_stdio(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        self.child_ends.append(fd)
        return fd

    def _pipe(self, target: int, pipesize: int) -> int:
        read, write = pipe_above_stdio()
        ours, theirs = (write, read) if target == 0 else (read, write)
        self.ours[target] = ours
        self.child_ends.append(theirs)
        set_pipe_size(write, pipesize)
        return theirs

    def _terminal(self, window_size: tuple[int, int] | None) -> int:
        master, slave = open_terminal()
        try:
            slave = above_stdio(slave)
        except OSError:
            os.close(master)
            raise
        self.child_ends.append(slave)
        self.terminal = above_stdio(master)
        if window_size is not None:
            set_window_size(self.terminal, *window_size)
        # With a terminal, stdout and stderr come out as one stream.
        for target in self.on_terminal:
            if target != 2 or 1 not in self.on_terminal:
                self.ours[target] = duplicate(self.terminal)
        # One epoll set is for our end of stdin, and one for reading what nobody else reads.
        for is_needed in (0 in self.on_terminal, not self.reads_terminal):
            if is_needed:
                self.watches.append(epoll_above_stdio())
        return slave

    def _source(self, fd: int, option: str, stays: bool = True) -> int:
        """What the child duplicates. `stays`: the number is not another file's there by then."""
        if stays and fd >= 0 and has_record_locks(fd):
            self.borrowed.append(fd)
            return fd
        return self._duplicate(fd, option)

    def _duplicate(self, fd: int, option: str) -> int:
        try:
            if fd < 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            copy = duplicate(fd)
        except OSError as exc:
            raise OSError(exc.errno, f"{exc.strerror} (for the option {option})") from None
        self.child_ends.append(copy)
        return copy

    def _directory(self, where: StrOrBytesPath | int, option: str) -> int:
        if is_number(where):
            return self._duplicate(integer(option, where), option)
        if not isinstance(where, (str, bytes, os.PathLike)):
            kind = type(where).__name__
            raise TypeError(f"{option} must be a path or a directory's descriptor, not {kind}")
        try:
            fd = above_stdio(os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as exc:
            raise OSError(exc.errno, f"{exc.strerror} (for the option {option})", where) from None
        self.child_ends.append(fd)
        return fd


def _our_stdout() -> int:
    # In a daemon, for example, sys.__stdout__ may be None.
    return 1 if sys.__stdout__ is None else sys.__stdout__.fileno()


def descriptor_of(name: str, choice: Any) -> int:
    """The number of a stdio choice that is none of subprocess's constants.

    Raises:
        TypeError: neither a number nor an object with `fileno()`.
        OverflowError: a number that is no int of C.
        OSError, ValueError: what `fileno()` raised; for io.UnsupportedOperation with a hint.
    """
    if is_number(choice):
        return integer(name, choice)
    fileno = getattr(choice, "fileno", None)
    if fileno is None:
        kind = type(choice).__name__
        # A reader of asyncio's kind has read a part already.
        if inspect.iscoroutinefunction(getattr(choice, "readline", None)):
            raise TypeError(NO_STREAM.format(name=name, kind=kind))
        raise TypeError(
            f"{name} must be PIPE, PTY, DEVNULL, a descriptor, an object with fileno() or None "
            f"(stderr also STDOUT), not {kind}{open_first(choice)}"
        )
    try:
        fd = fileno()
    except io.UnsupportedOperation as exc:
        kind = type(choice).__name__
        hint = _INSTEAD_OF_STDIN if name == "stdin" else _INSTEAD_OF_OUTPUT
        raise type(exc)(f"{exc}: {name} needs a descriptor, and {kind} has none; {hint}") from None
    except ValueError as exc:  # it is closed
        raise named(exc, f"the option {name}") from None
    if not is_number(fd):
        raise TypeError(f"{name}.fileno() returned a non-integer")
    if fd < 0:  # a socket that is closed; to subprocess it is as good as None
        raise OSError(errno.EBADF, f"{os.strerror(errno.EBADF)} (for the option {name})")
    return fd
