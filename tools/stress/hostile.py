"""A host that closes every descriptor that it does not know, and opens files of its own there.

It does so between two starts, in the one thread that starts programs, while programs run: as a
server does that becomes a daemon. Each file of the host's is remembered by what it is, and looked
at after each step: that its number still is that file, that nothing was written to it or put into
it, and that nobody else holds a pipe's writer.
"""

import asyncio
import contextlib
import faulthandler
import fcntl
import json
import logging
import os
import random
import select
import signal
import sys
import tempfile
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any, Final

import aiopidfd
from aiopidfd import DEVNULL, _native

from .host import GRACE, HANG, Job
from .programs import ENDLESS, sh
from .world import World, WrongError, children, held_guardian

if TYPE_CHECKING:
    from collections.abc import Callable

MARKER: Final = b"the host's own"
SPIN: Final = 0.1  # seconds of processor time in half a second
STEPS_A_ROUND: Final = 30
UNKNOWN: Final = 255

Identity = tuple[int, int, int]


def identity(fd: int) -> Identity:
    """What tells a file from another one."""
    stat = os.fstat(fd)
    return stat.st_dev, stat.st_ino, stat.st_mode


class Files:
    """The host's own files."""

    def __init__(self, luck: random.Random) -> None:
        """None yet."""
        self._luck = luck
        self._known: dict[int, tuple[str, Identity]] = {}
        self._pipes: dict[int, int] = {}  # writers, by reader

    def know(self, fd: int, kind: str) -> None:
        """This one is the host's."""
        self._known[fd] = (kind, identity(fd))

    def forget_loop(self) -> None:
        """A loop is about to close its own."""
        self._known = {fd: known for fd, known in self._known.items() if known[0] != "loop"}

    def open_some(self, numbers: list[int]) -> None:
        """Open files of all kinds; some at these numbers."""
        makers: list[tuple[str, Callable[[], int]]] = [
            ("file", _file),
            ("eventfd", lambda: os.eventfd(0)),
            ("epoll", _epoll),
            # Not of this process: pidfds of one process are one file to whoever compares inodes.
            ("pidfd", lambda: os.pidfd_open(os.getppid())),
        ]
        for _ in range(self._luck.randrange(12)):
            if self._luck.random() < 0.3:
                reader, writer = os.pipe()
                self.know(writer, "pipe")
                reader = self._move(reader, numbers)
                self.know(reader, "pipe")
                del self._known[writer]
                writer = self._move(writer, numbers)
                self.know(writer, "pipe")
                self._pipes[reader] = writer
            else:
                kind, make = self._luck.choice(makers)
                self.know(self._move(make(), numbers), kind)

    def _move(self, fd: int, numbers: list[int]) -> int:
        free = [number for number in numbers if number not in self._known and number != fd]
        if not free or self._luck.random() < 0.5:
            return fd
        number = self._luck.choice(free)
        os.dup2(fd, number, inheritable=False)
        os.close(fd)
        return number

    def close_unknown(self, most: float = 1.0) -> list[int]:
        """Close what the host does not know, all of it or a part; which numbers those were."""
        closed = []
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            if fd > 2 and fd not in self._known and self._luck.random() < most:
                with contextlib.suppress(OSError):  # the listing's own
                    os.close(fd)
                    closed.append(fd)
        return closed

    def close_some(self) -> None:
        """Close some of the host's own; of a pipe the writer first: its reader is at its end."""
        for reader, writer in [*self._pipes.items()]:
            if self._luck.random() < 0.3:
                self.forget(writer)
                del self._pipes[reader]
                self._is_at_its_end(reader)
                self.forget(reader)
        for fd, (kind, _) in [*self._known.items()]:
            if kind not in ("log", "pipe", "handle") and self._luck.random() < 0.3:
                self.forget(fd)

    def forget(self, fd: int) -> None:
        """Close it: it is the host's no more."""
        os.close(fd)
        del self._known[fd]

    def _is_at_its_end(self, reader: int) -> None:
        deadline = time.monotonic() + 2  # a program that is just being started has all for a moment
        while time.monotonic() < deadline:
            if select.select([reader], [], [], 0.1)[0]:
                if os.read(reader, 100):
                    raise WrongError(f"something was written to pipe {reader}")
                return
        raise WrongError(f"someone holds the writer of pipe {reader}: {_holders(identity(reader))}")

    def check(self) -> None:
        """See that nobody else has touched them."""
        for fd, (kind, what) in self._known.items():
            try:
                now = identity(fd)
            except OSError as exc:
                raise WrongError(f"{kind} {fd} was closed") from exc
            if now != what:
                what_now = os.readlink(f"/proc/self/fd/{fd}")
                raise WrongError(f"{kind} {fd} is another file: {what_now}")
            if kind == "file" and os.pread(fd, 1000, 0) != MARKER:
                raise WrongError(f"file {fd} has other contents")
            if kind in ("eventfd", "epoll"):
                with open(f"/proc/self/fdinfo/{fd}") as file:
                    text = file.read()
                if "tfd:" in text or ("eventfd-count" in text and not _is_zero(text)):
                    raise WrongError(f"{kind} {fd} was written to: {text}")
            if kind == "pipe" and fd in self._pipes and select.select([fd], [], [], 0)[0]:
                raise WrongError(f"something was written to pipe {fd}, or its writer was closed")


def _file() -> int:
    with tempfile.TemporaryFile() as file:
        file.write(MARKER)
        file.flush()
        return os.dup(file.fileno())


def _epoll() -> int:
    with select.epoll() as epoll:
        return os.dup(epoll.fileno())


def _is_zero(fdinfo: str) -> bool:
    return int(fdinfo.partition("eventfd-count:")[2].split()[0], 16) == 0


def _holders(what: Identity) -> list[str]:
    found = []
    for pid in [os.getpid(), *(child.pid for child in children())]:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                stat = os.stat(f"/proc/{pid}/fd/{name}")
                if (stat.st_dev, stat.st_ino, stat.st_mode) == what:
                    found.append(f"{pid}: {name}")
    return found


class HostileHost:
    """This process."""

    def __init__(self, job: Job) -> None:
        """Begin with the log as the only file that the host knows."""
        self.world = World(f"{job.seed}", job.log)
        self.luck = self.world.luck("hostile")
        self.files = Files(self.luck)
        self.files.know(self.world.log_fd, "log")
        self.exposed: set[int] = set()  # guardians that were there when descriptors were closed
        self.ends = job.ends
        self.without = job.without
        self.numbers: list[int] = []
        # With the status that is right, or a pidfd of the host's own to one that does not end.
        self.running: list[tuple[aiopidfd.Child, int | None, int]] = []

    def go(self) -> int:
        """Run rounds until the time is over; 0 if all was right."""
        faulthandler.enable()
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        steps = [
            (10, self.start),
            (10, self.wait),
            (4, self.close),
            (3, self.open),
            (2, self.close_own),
            (2, self.loop),
            (2, self.wait_in_threads),
            (1, self.fork),
            (1, self.kill_guardian),
            (1, self.spin),
        ]
        weights = [weight for weight, _ in steps]
        threading.excepthook = lambda args: self.world.fail("thread", args.exc_value)
        rounds = 0
        if self.luck.random() < 0.5:  # then what a start opens lies high: see reserved_numbers.h
            aiopidfd.spawn(["/bin/true"]).wait()
            for _ in range(100):
                self.files.know(os.dup(self.world.log_fd), "log")
        try:
            while time.time() < self.ends and not self.world.failures:
                rounds += 1
                faulthandler.dump_traceback_later(HANG, exit=True)
                for _ in range(STEPS_A_ROUND):
                    step = self.luck.choices([step for _, step in steps], weights)[0]
                    self.world.log(step.__name__)
                    step()
                    self.world.counts[step.__name__] += 1
                    self.files.check()
                self.end_round()
                self.world.begin_log()
        except Exception as exc:
            self.world.fail(f"round {rounds}", exc)
        counts = ", ".join(f"{what}: {n}" for what, n in sorted(self.world.counts.items()))
        print(f"{rounds} rounds. {counts}")
        for failure in self.world.failures:
            print(f"--- FAILURE {failure}")
        return 1 if self.world.failures else 0

    def start(self) -> None:
        """Programs are started, and left running."""
        for _ in range(self.luck.randrange(1, 4)):
            code = self.luck.randrange(256)
            options: dict[str, Any] = {}
            if self.luck.random() < 0.3:
                options["contain"] = True
            if self.luck.random() < 0.3:
                options["stdout"] = DEVNULL
            if self.luck.random() < 0.1:
                options["user"] = 0
            if self.luck.random() < 0.3:
                child = aiopidfd.spawn(ENDLESS, **options)
                pidfd = os.pidfd_open(child.pid)
                self.files.know(pidfd, "handle")
                self.running.append((child, None, pidfd))
            else:
                script = f"sleep {self.luck.random() * 0.1:.3f}; exit {code}"
                self.running.append((aiopidfd.spawn(sh(script), **options), code, -1))

    def _end(self, child: aiopidfd.Child, right: int | None, pidfd: int = -1) -> None:
        if right is None:
            try:
                child.kill()
            except ProcessLookupError:
                pass
            except OSError:  # its pidfd was closed: EBADF is documented
                self.world.counts["kill: EBADF"] += 1
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            self.files.forget(pidfd)
        code = child.wait(20)
        codes = {-signal.SIGKILL if right is None else right}
        if child.guardian_pid in self.exposed:
            # To a guardian a closed lifeline looks as if this process had exec'd something else: it
            # ends, and what it contains with it. Else the status is not known where nobody looked.
            codes |= {-signal.SIGKILL, UNKNOWN}
        elif child.guardian_pid in self.world.killed:
            codes |= {-signal.SIGKILL}
        self.world.check("hostile", code, child.guardian_pid, *codes)

    def wait(self) -> None:
        """One program is waited for."""
        if self.running:
            self._end(*self.running.pop(self.luck.randrange(len(self.running))))

    def close(self) -> None:
        """All that is not the host's is closed, or a part of it."""
        self.exposed.update(child.pid for child in children())
        self.numbers = self.files.close_unknown(self.luck.choice([1.0, 1.0, 0.3]))
        if self.luck.random() < 0.7:
            self.open()

    def open(self) -> None:
        """Files are opened, there perhaps."""
        self.exposed.update(child.pid for child in children())
        self.files.open_some(self.numbers)

    def close_own(self) -> None:
        """Files of the host's are closed."""
        self.files.close_some()

    def loop(self) -> None:
        """A loop of a short life; between two programs of it descriptors may be closed, too."""

        async def main() -> None:
            await self._on_loop()
            if "close on the loop" not in self.without and self.luck.random() < 0.5:
                own = asyncio.get_running_loop()
                for part in ("_selector", "_ssock", "_csock"):
                    with contextlib.suppress(AttributeError):
                        self.files.know(getattr(own, part).fileno(), "loop")
                self.world.log("close on the loop")
                self.close()
                self.files.check()
                await self._on_loop()

        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(asyncio.wait_for(main(), 20))
            self.files.forget_loop()

    async def _on_loop(self) -> None:
        code = self.luck.randrange(256)
        process = await aiopidfd.create_subprocess_exec(*sh(f"sleep 0.01; exit {code}"))
        self.world.check("on a loop", await process.wait(), process.guardian_pid, code)

    def wait_in_threads(self) -> None:
        """Threads wait for programs while descriptors are closed."""
        waiting = [pair for pair in self.running if pair[1] is not None][:3]
        self.running = [pair for pair in self.running if pair not in waiting]
        threads = [threading.Thread(target=self._end, args=pair) for pair in waiting]
        for thread in threads:
            thread.start()
        self.close()
        for thread in threads:
            thread.join()

    def fork(self) -> None:
        """A copy starts a program of its own, and closes nothing that is the host's."""
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                signal.alarm(20)
                self.files.check()
                code = aiopidfd.spawn(sh("exit 72")).wait()
                self.files.check()
            except BaseException as exc:
                self.world.log(f"in a copy: {exc!r}")
                code = 98
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != 72:
            raise WrongError(f"a copy ended with {code}")

    def kill_guardian(self) -> None:
        """A guardian is killed."""
        guardians = [child for child in children() if child.is_guardian and child.state != "Z"]
        if guardians:
            child = self.luck.choice(guardians)
            with held_guardian(child.pid) as pidfd:
                if pidfd is not None:
                    self.world.send(pidfd, child.pid, signal.SIGKILL)

    def spin(self) -> None:
        """Nothing is done while nothing happens."""
        child = aiopidfd.spawn(ENDLESS)
        waiter = threading.Thread(target=self._end, args=(child, -signal.SIGKILL))
        waiter.start()
        before = time.process_time()
        time.sleep(0.5)
        used = time.process_time() - before
        child.kill()
        waiter.join()
        if used > SPIN:
            raise WrongError(f"{used:.3f} seconds of processor time in half a second")

    def end_round(self) -> None:
        """Nothing is left but what the library holds for good."""
        while self.running:
            self._end(*self.running.pop())
        deadline = time.monotonic() + GRACE
        while _native.sweep() or _native.records() or children():
            if time.monotonic() > deadline:
                raise WrongError(f"left: {_native.sweep()}, {_native.records()}, {children()}")
            time.sleep(0.01)


def main() -> int:
    """Run the job that the argument tells of."""
    fcntl.fcntl(0, fcntl.F_GETFD)  # 0, 1 and 2 are open
    return HostileHost(Job(**json.loads(sys.argv[1]))).go()


if __name__ == "__main__":
    sys.exit(main())
