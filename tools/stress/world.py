"""What all threads of a host share: its log, its counts, what was done to it, and its failures."""

import contextlib
import errno
import os
import random
import resource
import signal
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

# What may be raised while descriptors or processes are limited; EINVAL is fcntl(2)'s word for a
# limit that is below the number that is asked for.
LIMIT_ERRORS: Final = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EINVAL)
MAX_FAILURES: Final = 5


class WrongError(Exception):
    """Something that must hold does not."""


class Child(NamedTuple):
    """A child of this process, as /proc tells it."""

    pid: int
    name: str
    state: str
    exit_signal: int

    @property
    def is_guardian(self) -> bool:
        """Whether it is a guardian: nothing else that a host has ends without a signal."""
        return self.exit_signal == 0


def _look_up(pid: int) -> Child | None:
    try:
        before, _, after = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = after.split()
    if int(fields[1]) != os.getpid():
        return None
    return Child(pid, before.partition("(")[2], fields[0], int(fields[35]))


def children() -> list[Child]:
    """All children of this process, zombies among them."""
    found: dict[int, Child] = {}
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for word in Path(f"/proc/self/task/{task}/children").read_text().split():
                if (child := _look_up(int(word))) is not None:
                    found[child.pid] = child
    return list(found.values())


@contextlib.contextmanager
def held_guardian(pid: int) -> Iterator[int | None]:
    """A pidfd of a child that certainly is a guardian; None if it is gone."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        child = _look_up(pid)  # what has this number now was there before the pidfd, or is gone
        yield pidfd if child is not None and child.is_guardian else None
    finally:
        os.close(pidfd)


def open_files() -> dict[int, str]:
    """What lies behind each open descriptor."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def resident_kib() -> int:
    """The resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


class World:
    """One host.

    Attributes:
        seed: all luck comes from it, together with the names of who asks.
        counts: how often each thing was done.
        failures: what did not hold, with a traceback where there is one.
        kills: how many guardians have been killed so far.
        limited: whether descriptors are limited in this phase, and errors of that kind are right.
        hazards_over, over: set when a phase comes to its end.
        limits: held while the limit on descriptors is low.
    """

    def __init__(self, seed: str, log: str) -> None:
        """Open the log, to which the last actions go."""
        self.seed = seed
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.kills = 0
        self.killed: set[int] = set()
        self.limited = False
        self.hazards_over = threading.Event()
        self.over = threading.Event()
        self.limits = threading.Lock()
        self._active: dict[str, tuple[str, float]] = {}
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def log_fd(self) -> int:
        """The log's descriptor."""
        return self._log

    def luck(self, name: str) -> random.Random:
        """A source of luck for whoever has this name."""
        return random.Random(f"{self.seed}/{name}")

    def log(self, text: str) -> None:
        """Remember an action, whatever becomes of this process."""
        name = threading.current_thread().name
        os.write(self._log, f"{time.time() % 1000:8.3f} {os.getpid()} {name}: {text}\n".encode())

    def begin_log(self) -> None:
        """Forget the actions of the last phase."""
        os.ftruncate(self._log, 0)

    def fail(self, text: str, exc: BaseException | None = None) -> None:
        """Remember a failure."""
        trace = "" if exc is None else "".join(traceback.format_exception(exc))
        self.log(f"FAILURE {text}")
        self.failures.append(f"{text}\n{trace}")
        if len(self.failures) >= MAX_FAILURES:
            self.hazards_over.set()
            self.over.set()

    @contextlib.contextmanager
    def action(self, name: str, what: str) -> Iterator[None]:
        """An action, for the log and the watchdog; what it raises is right or a failure."""
        kills = self.kills
        self._active[name] = (what, time.monotonic())
        self.log(f"{name} {what}")
        try:
            yield
            self.counts[what] += 1
        except ChildProcessError as exc:
            if self.kills == kills:
                self.fail(f"{name} {what}", exc)
            self.counts["guardian killed in a start"] += 1
        except OSError as exc:
            if not self.limited or exc.errno not in LIMIT_ERRORS:
                self.fail(f"{name} {what}", exc)
            self.counts["limit reached"] += 1
        except Exception as exc:
            if not self.limited or not _is_limit(exc):
                self.fail(f"{name} {what}", exc)
        finally:
            self.log(f"{name} {what}: done")
            self._active.pop(name, None)

    def longest(self) -> tuple[float, str]:
        """How long the action that is under way longest has taken, and which it is."""
        now = time.monotonic()
        ages = [(now - since, f"{name} {what}") for name, (what, since) in [*self._active.items()]]
        return max(ages, default=(0.0, ""))

    def check(self, what: str, code: int | None, guardian: int, *right: int) -> None:
        """See that a return code is right; 255 only if that program's guardian was killed."""
        if code in right:
            return
        if code == 255 and guardian in self.killed:
            self.counts["unknown status"] += 1
            return
        killed = "killed" if guardian in self.killed else "alone"
        raise WrongError(f"{what}: {code}, not {right}; guardian {guardian} was left {killed}")

    def send(self, pidfd: int, pid: int, *signals: int) -> None:
        """Send signals to a guardian, by its pidfd."""
        if signal.SIGKILL in signals:
            self.killed.add(pid)
            self.kills += 1
        for number in signals:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, number)
            self.log(f"{signal.Signals(number).name} to guardian {pid}")


def _is_limit(exc: BaseException) -> bool:
    if isinstance(exc, BaseExceptionGroup):
        return all(map(_is_limit, exc.exceptions))
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in LIMIT_ERRORS:
            return True
        seen = seen.__cause__ or seen.__context__
    return False
