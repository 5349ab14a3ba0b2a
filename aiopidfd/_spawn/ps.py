"""`python -m aiopidfd ps`: the guardians that /proc shows, their hosts and their programs.

Everything is read from /proc (proc(5)); any user may do so, and the hosts are not asked. A guardian
is recognised by its name (PR_SET_NAME(2const)) together with its exit signal, which is 0; see
proc_pid_stat(5).
"""

import contextlib
import functools
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Guarded", "guarded", "ps"]

_PROC: Final = Path("/proc")
_NAME: Final = "aiopidfd-guard"  # as in native/guardian.c
_HEAD: Final = ("HOST", "GUARDIAN", "PID", "STARTED", "CONTAINED", "TREE", "COMMAND")
_WORDS: Final = {True: "yes", False: "no", None: "?"}
_TICKS: Final = os.sysconf("SC_CLK_TCK")  # clock ticks in a second


class _Process(NamedTuple):
    """What /proc/PID/stat says."""

    pid: int
    name: str
    state: str
    parent: int
    started: int  # in clock ticks after the boot
    exit_signal: int


class Guarded(NamedTuple):
    """A guardian, its host and its program.

    Attributes:
        guardian: the guardian's process id.
        host: the process id of the process that has started the guardian.
        host_command: the host's command line.
        pid: the program's process id. None if there is no program: it is being started, or the
            guardian has ended and is not reaped yet. If the program has exited and the guardian
            stays for what it left behind, this is the oldest of those processes.
        command: the program's command line; empty if the program is a zombie, or has not quite
            come to the end of its exec.
        started: when the program was born, in seconds since the epoch.
        contained: whether the program was started with `contain`. None if we may not look: this
            needs the right to trace the guardian (ptrace(2)), which its own user and root have.
        processes: how many processes the program's tree has: itself included, zombies not.
    """

    guardian: int
    host: int
    host_command: list[str]
    pid: int | None
    command: list[str]
    started: float | None
    contained: bool | None
    processes: int


def guarded(host: int | None = None) -> list[Guarded]:
    """All guardians that /proc shows, or those of one host; by host, the oldest program first.

    Raises:
        OSError: there is no /proc.
    """
    processes = {process.pid: process for process in _processes()}
    children: dict[int, list[_Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    boot = _boot_time()
    command = functools.cache(_command)  # many have the same host
    found = []
    for guardian in processes.values():
        if guardian.name != _NAME or guardian.exit_signal != 0:
            continue
        if host is not None and guardian.parent != host:
            continue
        program = min(children.get(guardian.pid, ()), key=_age, default=None)
        found.append(
            Guarded(
                guardian.pid,
                guardian.parent,
                command(guardian.parent),
                None if program is None else program.pid,
                [] if program is None else _command(program.pid),
                None if program is None else boot + program.started / _TICKS,
                _is_contained(guardian.pid),
                _count_below(guardian.pid, children),
            )
        )
    return sorted(found, key=lambda one: (one.host, _age(processes[one.pid or one.guardian])))


def ps(pid: int | None = None, as_json: bool = False) -> int:
    """Print the guardians that there are, or those of one host if `pid` is given.

    Returns:
        The exit status: 0, or 1 if there is no such process, or no /proc to look into.
    """
    if pid is not None and not (_PROC / str(pid)).exists():
        print(f"There is no process {pid} in /proc.", file=sys.stderr)
        return 1
    try:
        found = guarded(pid)
    except OSError as exc:
        print(f"/proc cannot be read: {exc}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps([one._asdict() for one in found], indent=2))
        return 0
    rows = [_HEAD, *map(_row, found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]))
    hosts = {one.host: one.host_command for one in found}
    for number, command in hosts.items():
        print(f"host {number}: {_printable(command) or '-'}")
    return 0


def _row(one: Guarded) -> tuple[str, ...]:
    return (
        str(one.host),
        str(one.guardian),
        "-" if one.pid is None else str(one.pid),
        "-" if one.started is None else _local(one.started),
        _WORDS[one.contained],
        str(one.processes),
        _printable(one.command) or "-",
    )


def _processes() -> Iterator[_Process]:
    for name in os.listdir(_PROC):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                yield _read_stat(int(name))


def _read_stat(pid: int) -> _Process:
    # The name may contain anything, even parentheses: it ends at the last one.
    head, _, tail = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")
    fields = tail.split()  # the first is field 3, the state
    return _Process(
        pid,
        head.partition("(")[2],
        fields[0],
        int(fields[1]),
        int(fields[19]),
        int(fields[35]),
    )


def _age(process: _Process) -> tuple[int, int]:
    """A key that sorts the oldest first."""
    return process.started, process.pid


def _count_below(pid: int, children: dict[int, list[_Process]]) -> int:
    count, parents = 0, [pid]
    while parents:
        for process in children.get(parents.pop(), ()):
            count += process.state not in "ZX"
            parents.append(process.pid)
    return count


def _command(pid: int) -> list[str]:
    try:
        data = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:  # the process has ended
        return []
    return [os.fsdecode(arg) for arg in data.removesuffix(b"\0").split(b"\0")] if data else []


def _is_contained(guardian: int) -> bool | None:
    """Whether a guardian contains: then its list of children is open.

    native/guardian_kills_children.c opens it.
    """
    folder = _PROC / str(guardian) / "fd"
    try:
        for name in os.listdir(folder):
            if os.readlink(folder / name).endswith("/children"):
                return True
    except OSError:
        return None
    return False


def _boot_time() -> float:
    for line in (_PROC / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def _local(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _printable(command: list[str]) -> str:
    """A command line that is safe to print to a terminal."""
    return "".join(
        char if char.isprintable() else ascii(char)[1:-1] for char in shlex.join(command)
    )
