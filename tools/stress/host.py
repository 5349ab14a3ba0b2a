"""A host: phases of flows and hazards, and after each of them a look at what is left."""

import contextlib
import ctypes
import dataclasses
import faulthandler
import gc
import json
import logging
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from typing import Any, Final

import aiopidfd
from aiopidfd import _native

from .flows import Loopless, flow_together, on_loop, sleep_together
from .hazards import HAZARDS
from .world import World, WrongError, children, held_guardian, open_files, resident_kib

PHASE: Final = 5.0  # seconds
HANG: Final = 60.0  # seconds without a step
GRACE: Final = 8.0  # seconds that what is on its way out may take
SLEEPERS: Final = 20
SPIN: Final = 0.05  # seconds of processor time in a second in which nothing happens
GROWTH: Final = 1.10
PR_SET_CHILD_SUBREAPER: Final = 36
BASELINE: Final = 3  # the phase that memory is compared with


@dataclasses.dataclass
class Job:
    """What there is to do, and how far it is: all that a host hands over when it execs itself."""

    seed: int
    ends: float  # time.time()
    log: str
    loops: list[str]
    workers: int
    without: list[str]
    phase: int = 0
    image: int = 0
    counts: dict[str, int] = dataclasses.field(default_factory=dict)

    def text(self) -> str:
        """For an argument."""
        return json.dumps(dataclasses.asdict(self))


class Host:
    """This process."""

    def __init__(self, job: Job) -> None:
        """Prepare what is there once."""
        self.job = job
        self.world = World(f"{job.seed}/{job.image}", job.log)
        self.world.counts.update(job.counts)
        self.luck = random.Random(f"{job.seed}/{job.image}/{job.phase}")
        self.null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self.files: set[tuple[int, str]] = set()
        self.phases = 0
        self.baseline = 0
        libc = ctypes.CDLL(None)
        self._trim = libc.malloc_trim
        self._prctl = libc.prctl

    def go(self) -> int:
        """Run phases until the time is over; 0 if all was right."""
        faulthandler.enable()
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        sys.unraisablehook = self._unraisable
        threading.excepthook = self._thread_died
        try:
            self._clear_up_after_exec()
            self._warm_up()
            while time.time() < self.job.ends and not self.world.failures:
                self._phase()
        except WrongError as exc:
            self.world.fail("host", exc)
        faulthandler.cancel_dump_traceback_later()
        for failure in self.world.failures:
            print(f"--- FAILURE in phase {self.job.phase} of image {self.job.image}: {failure}")
        counts = ", ".join(f"{what}: {n}" for what, n in sorted(self.world.counts.items()))
        print(f"{self.job.image} times exec'd, {self.job.phase} phases. {counts}", flush=True)
        return 1 if self.world.failures else 0

    def _unraisable(self, unraisable: Any) -> None:
        if not self.world.limited:
            self.world.fail(f"{unraisable.err_msg} {unraisable.object}", unraisable.exc_value)

    def _thread_died(self, args: Any) -> None:
        self.world.fail(f"thread {args.thread}", args.exc_value)

    # ---- Phases ----

    def _phase(self) -> None:
        job, world, luck = self.job, self.world, self.luck
        job.phase += 1
        self.phases += 1
        world.seed = f"{job.seed}/{job.image}/{job.phase}"
        world.begin_log()
        world.over.clear()
        world.hazards_over.clear()
        names = [name for name in HAZARDS if name not in job.without and luck.random() < 0.45]
        world.limited = "limit descriptors" in names
        disposition: Any = luck.choice([signal.SIG_DFL, signal.SIG_IGN, _ignore])
        subreaper = luck.random() < 0.2
        signal.signal(signal.SIGCHLD, disposition)
        self._prctl(PR_SET_CHILD_SUBREAPER, int(subreaper))
        world.log(f"phase {job.phase}: {names}, {disposition}, subreaper: {subreaper}")
        threads = [
            threading.Thread(target=self._run, args=(kind,), name=kind, daemon=True)
            for kind in job.loops
        ]
        hazards = [
            threading.Thread(
                target=HAZARDS[name], args=(world, name, self.null), name=name, daemon=True
            )
            for name in names
        ]
        for thread in (*threads, *hazards):
            thread.start()
        will_exec = "exec" not in job.without and luck.random() < 0.12
        self._wait_for(luck.random() * PHASE if will_exec else PHASE, threads)
        if will_exec and not world.failures:
            self._exec()
        world.hazards_over.set()
        self._join(hazards)
        world.over.set()
        self._join(threads)
        gc.collect()  # a loop that could not be made complains
        world.limited = False
        self._nothing_is_left()
        if self.phases % 2 == 0 and not world.failures:
            self._nothing_spins()
            self._nothing_is_left()
        self._memory_is_flat()

    def _run(self, kind: str) -> None:
        world, workers = self.world, self.job.workers
        if kind != "none":
            while not world.over.is_set():  # again where a limit did not let it begin
                on_loop(world, kind, flow_together, world, kind, workers, self.null)
            return
        spawners = [
            threading.Thread(
                target=Loopless(world, f"none/{n}", self.null).go, name=f"none/{n}", daemon=True
            )
            for n in range(workers)
        ]
        for thread in spawners:
            thread.start()
        for thread in spawners:
            thread.join()

    def _wait_for(self, seconds: float, threads: list[threading.Thread]) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.world.over.is_set():
            self._watch()
            time.sleep(0.1)

    def _join(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            while thread.is_alive():
                self._watch()
                thread.join(0.1)

    def _watch(self) -> None:
        """End this process, with all stacks, if it gets stuck; or if one action of it is."""
        faulthandler.dump_traceback_later(HANG, exit=True)
        seconds, what = self.world.longest()
        if seconds > HANG and what != "asyncio loop":
            loops = " loop loop"
            if not what.endswith(loops):
                print(f"--- HANGS: {what} for {seconds:.0f} seconds", flush=True)
                faulthandler.dump_traceback(all_threads=True)
                os._exit(3)

    # ---- What must hold between phases ----

    def _warm_up(self) -> None:
        """Make what is there once in a process: lifelines, low numbers, a loop's own."""
        world = self.world
        assert aiopidfd.spawn(["/bin/true"]).wait() == 0
        for _ in range(2):
            world.over.set()
            for kind in self.job.loops:
                if kind != "none":
                    on_loop(world, kind, sleep_together, threading.Barrier(1), world.over, 1)
        self._nothing_is_left()
        self.files = set(open_files().items())

    def _left(self) -> dict[str, object]:
        gc.collect()
        found = {
            "not swept": _native.sweep(),
            "records": _native.records(),
            "children": children(),
            "files": self.files and sorted(set(open_files().items()) - self.files),
            "threads": [thread.name for thread in threading.enumerate()][1:],
        }
        return {what: value for what, value in found.items() if value}

    def _nothing_is_left(self) -> None:
        deadline = time.monotonic() + GRACE
        while left := self._left():
            with contextlib.suppress(ChildProcessError):  # adopted as a subreaper, or copies
                os.waitpid(-1, os.WNOHANG)
            self._watch()
            if time.monotonic() > deadline:
                self.world.fail(f"left behind: {left}")
                return
            time.sleep(0.01)

    def _nothing_spins(self) -> None:
        """Programs that sleep, some of them without a guardian, or with one that was stopped."""
        world, kinds = self.world, [kind for kind in self.job.loops if kind != "none"]
        world.log("quiet")
        over = threading.Event()
        barrier = threading.Barrier(len(kinds) + 1)
        each = SLEEPERS // max(len(kinds), 1)
        rest = (sleep_together, barrier, over, each)
        threads = [threading.Thread(target=on_loop, args=(world, kind, *rest)) for kind in kinds]
        for thread in threads:
            thread.start()
        barrier.wait(HANG)
        guardians = [child for child in children() if child.is_guardian]
        if len(guardians) != each * len(kinds):
            world.fail(f"{len(guardians)} guardians for {each * len(kinds)} programs")
        for child in self.luck.sample(guardians, self.luck.choice([0, 5])):
            with held_guardian(child.pid) as pidfd:
                if pidfd is not None:
                    world.send(pidfd, child.pid, signal.SIGKILL)
        time.sleep(0.3)
        before = time.process_time() + _guardian_seconds()
        time.sleep(1)
        used = time.process_time() + _guardian_seconds() - before
        over.set()
        self._join(threads)
        world.counts["quiet"] += 1
        if used > SPIN:
            world.fail(f"{used:.3f} seconds of processor time in a second without news")

    def _memory_is_flat(self) -> None:
        gc.collect()
        self._trim(0)
        now = resident_kib()
        self.world.log(f"{now} KiB")
        if self.phases == BASELINE:
            self.baseline = now
        if "memory" in self.job.without:
            return
        if self.phases > BASELINE and now > self.baseline * GROWTH:
            self.world.fail(f"memory: {now} KiB, in phase {BASELINE} it was {self.baseline} KiB")

    # ---- Another image ----

    def _exec(self) -> None:
        """Become another image of this program, under all that runs."""
        job = self.job
        job.image += 1
        job.counts = dict(self.world.counts)
        with self.world.limits:  # an interpreter cannot start without descriptors
            self.world.log("exec")
            faulthandler.cancel_dump_traceback_later()
            os.execv(sys.executable, [sys.executable, "-m", "tools.stress.host", job.text()])

    def _clear_up_after_exec(self) -> None:
        """What the last image's guardians must do: end. What is left of them: the next starts."""
        if not self.job.image:
            return
        faulthandler.dump_traceback_later(HANG, exit=True)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._prctl(PR_SET_CHILD_SUBREAPER, 0)
        self.world.log("another image")
        while others := [child for child in children() if not child.is_guardian]:
            for child in others:  # copies, and programs that were adopted
                os.kill(child.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
        deadline = time.monotonic() + GRACE
        while running := [c for c in children() if c.is_guardian and c.state not in "ZX"]:
            for child in running:  # that the last image has stopped
                with held_guardian(child.pid) as pidfd:
                    if pidfd is not None:
                        signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            if time.monotonic() > deadline:
                raise WrongError(f"guardians live on after an exec: {running}")
            time.sleep(0.01)
        for starts in range(1, 17):
            assert aiopidfd.spawn(["/bin/true"]).wait() == 0
            if not (left := [child for child in children() if child.is_guardian]):
                self.world.counts[f"guardians reaped {starts} starts after an exec"] += 1
                return
        raise WrongError(f"zombies stay after an exec: {left}")


def _ignore(number: int, frame: object) -> None:
    """Handle a signal by nothing."""


def _guardian_seconds() -> float:
    """The processor time of all guardians there are."""
    ticks = 0
    for child in children():
        with contextlib.suppress(OSError), open(f"/proc/{child.pid}/stat") as file:
            ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run the job that the argument tells of."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    return Host(Job(**json.loads(sys.argv[1]))).go()


if __name__ == "__main__":
    sys.exit(main())
