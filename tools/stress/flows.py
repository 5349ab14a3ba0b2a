"""Flows: what starts programs, on each loop and without one, and checks how they end."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import trio
import uvloop

import aiopidfd
import aiopidfd.anyio
from aiopidfd import DEVNULL, PIPE

from .programs import ENDLESS, FAILING, SIGNALS, Program, ending, endless, sh
from .world import World, WrongError

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


class Flow:
    """One task that starts one program after the other, on the running loop."""

    def __init__(self, world: World, name: str, *, on_trio: bool, null: int) -> None:
        """`null` is /dev/null, open for writing."""
        self.world = world
        self.name = name
        self.luck = world.luck(name)
        self.on_trio = on_trio
        self.null = null
        self.actions: list[tuple[int, str, Callable[[], Awaitable[None]]]] = [
            (20, "ends", self.ends),
            (10, "is signalled", self.is_signalled),
            (10, "start cancelled", self.start_cancelled),
            (5, "wait cancelled", self.wait_cancelled),
            (5, "times out", self.times_out),
            (8, "runs", self.runs),
            (8, "fails", self.fails),
            (3, "contained", self.contained),
            (5, "dropped", self.dropped),
            (2, "many", self.many),
        ]

    async def go(self) -> None:
        """Do one thing after the other until the phase is over."""
        weights = [weight for weight, _, _ in self.actions]
        while not self.world.over.is_set():
            _, what, action = self.luck.choices(self.actions, weights)[0]
            with self.world.action(self.name, what):
                await action()
            await anyio.lowlevel.checkpoint()

    @property
    def _by_anyio(self) -> bool:
        return self.on_trio or self.luck.random() < 0.3

    async def start(self, program: Program) -> Any:
        """Start it by one of the two interfaces."""
        if self._by_anyio:
            chosen = {"stdin": None, "stdout": None, "stderr": None, **program.options}
            return await aiopidfd.anyio.open_process(program.command, **chosen)
        return await aiopidfd.create_subprocess_exec(*program.command, **program.options)

    async def finish(self, program: Program, process: Any) -> None:
        """Read what it says, wait for its end, and check both."""
        output: bytes | None = None
        if isinstance(process, aiopidfd.anyio.Process):
            if process.stdout is not None:
                output = b"".join([chunk async for chunk in process.stdout])
            code = await process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        elif process.stdout is not None:
            output, _ = await process.communicate(drain=None)
            code = process.returncode
        else:
            code = await process.wait()
        program.check(self.world, code, process.guardian_pid, output)

    async def pause(self, most: float = 0.05) -> None:
        """A moment; often none at all."""
        await anyio.sleep(self.luck.choice([0, 0, self.luck.random() ** 3 * most]))

    async def ends(self) -> None:
        """A program ends by itself."""
        program = ending(self.luck, self.world, self.null)
        process = await self.start(program)
        await self.pause()
        await self.finish(program, process)

    async def is_signalled(self) -> None:
        """A program is ended by a signal."""
        process = await self.start(endless(self.luck, self.world, self.null))
        try:
            await self.pause()
            if self.luck.random() < 0.2:
                number = signal.SIGKILL
                await process.kill_tree()
            else:
                number = self.luck.choice(SIGNALS)
                with contextlib.suppress(ProcessLookupError):  # with its guardian, perhaps
                    process.send_signal(number)
            codes = (-number, -signal.SIGKILL)  # the second: die_with_parent
            self.world.check("signalled", await process.wait(), process.guardian_pid, *codes)
        finally:
            _kill(process)

    async def start_cancelled(self) -> None:
        """A start is cancelled at any moment; nothing may be left, or all of it is ours."""
        program = endless(self.luck, self.world, self.null)
        process: Any = None
        if self.on_trio or self.luck.random() < 0.5:
            with anyio.move_on_after(self.luck.random() ** 2 * 0.004):
                process = await self.start(program)
        else:
            task = asyncio.create_task(self.start(program))
            await asyncio.sleep(self.luck.random() ** 2 * 0.004)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                process = await task
        if process is not None:
            _kill(process)
            code = await process.wait()
            self.world.check("not cancelled", code, process.guardian_pid, -signal.SIGKILL)

    async def wait_cancelled(self) -> None:
        """A wait is cancelled; the next one gets the status."""
        program = ending(self.luck, self.world, self.null)
        program.options["stdout"] = DEVNULL
        process = await self.start(program)
        for _ in range(3):
            with anyio.move_on_after(self.luck.random() ** 2 * 0.02):
                await process.wait()
        await self.finish(program, process)

    async def times_out(self) -> None:
        """A program runs for longer than it may."""
        seconds = self.luck.random() ** 2 * 0.05
        if self._by_anyio:
            with anyio.move_on_after(seconds) as scope:
                await aiopidfd.anyio.run_process(ENDLESS, grace=0.1)
            if not scope.cancelled_caught:
                raise WrongError("a program that sleeps has come to its end")
            return
        try:
            await aiopidfd.run_process(ENDLESS, timeout=seconds, grace=0.1)
        except subprocess.TimeoutExpired:
            return
        raise WrongError("a program that sleeps has come to its end")

    async def runs(self) -> None:
        """A program is run from its start to its end."""
        size = self.luck.choice([0, 10, 100_000])
        code = self.luck.randrange(256)
        contain = self.luck.random() < 0.2
        options: dict[str, Any] = {"check": False, "contain": contain, "drain": None}
        if self.world.limited:
            options["rlimits"] = {"NOFILE": 1024}
        command = sh(f"printf '%0{size}d' 7; exit {code}")
        module: Any = aiopidfd.anyio if self._by_anyio else aiopidfd
        result = await module.run_process(command, **options)
        if result.returncode != code:
            if not self.world.kills or result.returncode not in (255, -signal.SIGKILL):
                raise WrongError(f"run_process: {result.returncode}, not {code}")
            return
        if len(result.stdout) != max(size, 1):
            raise WrongError(f"run_process: {len(result.stdout)} bytes, not {max(size, 1)}")

    async def fails(self) -> None:
        """What cannot be started raises."""
        command, options, number = self.luck.choice(FAILING)
        try:
            process = await self.start(Program(command, {**options, "stdout": DEVNULL}, ()))
        except OSError as exc:
            if exc.errno != number:
                raise
        else:
            raise WrongError(f"{command} {options} was started: {process}")

    async def contained(self) -> None:
        """What a contained program leaves behind is killed, unless the guardian was."""
        code = self.luck.randrange(256)
        options: dict[str, Any] = {"contain": True, "stdout": PIPE}
        if self.world.limited:
            options["rlimits"] = {"NOFILE": 1024}
        program = Program(sh(f"sleep 4 & sleep 4 & exit {code}"), options, (code,))
        process = await self.start(program)
        await self.pause()
        begun = anyio.current_time()
        await self.finish(program, process)
        took = anyio.current_time() - begun
        if took > 3 and process.guardian_pid not in self.world.killed:
            raise WrongError(f"what is contained lived on for {took:.1f} seconds")

    async def dropped(self) -> None:
        """A handle is dropped while its program runs."""
        program = ending(self.luck, self.world, self.null)
        program.options["stdout"] = self.luck.choice([DEVNULL, PIPE])
        program.output = None
        await self.start(program)

    async def many(self) -> None:
        """More starts at once than a loop does at once."""
        async with anyio.create_task_group() as group:
            for number in range(self.luck.randrange(40)):
                group.start_soon(self._one_of_many, number)

    async def _one_of_many(self, number: int) -> None:
        with self.world.action(f"{self.name}.{number}", "one of many"):
            await self.ends()


def _kill(process: Any) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


async def flow_together(world: World, name: str, count: int, null: int) -> None:
    """Several flows on the running loop."""
    on_trio = name.startswith("trio")
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(Flow(world, f"{name}/{number}", on_trio=on_trio, null=null).go)


async def sleep_together(barrier: threading.Barrier, over: threading.Event, count: int) -> None:
    """Start programs that do nothing, and do nothing until it is over."""
    processes = [await aiopidfd.anyio.open_process(ENDLESS, stdout=DEVNULL) for _ in range(count)]
    barrier.wait()
    while not over.is_set():  # noqa: ASYNC110 (a thread sets it)
        await anyio.sleep(0.25)
    for process in processes:
        _kill(process)
        await process.wait()


def on_loop(world: World, kind: str, main: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Run a coroutine on a new loop."""

    def complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        world.fail(f"{kind}: {context.get('message')}", context.get("exception"))

    async def called() -> None:
        await main(*args)

    with world.action(f"{kind} loop", "loop"):
        if kind == "trio":
            trio.run(called)
            return
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.get_loop().set_exception_handler(complain)
            runner.run(called())


class Loopless:
    """A thread that starts programs without a loop."""

    def __init__(self, world: World, name: str, null: int) -> None:
        """`null` is /dev/null, open for writing."""
        self.world = world
        self.name = name
        self.luck = world.luck(name)
        self.null = null
        self.actions: list[tuple[int, str, Callable[[], None]]] = [
            (20, "ends", self.ends),
            (10, "is signalled", self.is_signalled),
            (5, "times out", self.times_out),
            (5, "fails", self.fails),
            (5, "dropped", self.dropped),
            (5, "waited for by many", self.waited_for_by_many),
        ]

    def go(self) -> None:
        """Do one thing after the other until the phase is over."""
        weights = [weight for weight, _, _ in self.actions]
        while not self.world.over.is_set():
            _, what, action = self.luck.choices(self.actions, weights)[0]
            with self.world.action(self.name, f"spawn: {what}"):
                action()

    def start(self, program: Program) -> tuple[aiopidfd.Child, int]:
        """Start it; the other end of its stdout, if that is a pipe, else -1."""
        if program.options.get("stdout") != PIPE:
            return aiopidfd.spawn(program.command, **program.options), -1
        read, write = os.pipe()
        try:
            return aiopidfd.spawn(program.command, **{**program.options, "stdout": write}), read
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)

    def ends(self) -> None:
        """A program ends by itself."""
        program = ending(self.luck, self.world, self.null)
        child, pipe = self.start(program)
        output: bytes | None = None
        if pipe >= 0:
            with open(pipe, "rb") as file:
                output = file.read()
        if self.luck.random() < 0.2:
            while child.poll() is None:
                self.world.over.wait(0.002)
        program.check(self.world, child.wait(), child.guardian_pid, output)

    def is_signalled(self) -> None:
        """A program is ended by a signal."""
        child, _ = self.start(endless(self.luck, self.world, self.null))
        self.world.over.wait(self.luck.random() ** 3 * 0.05)
        number = self.luck.choice(SIGNALS)
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(number)
        self.world.check("signalled", child.wait(), child.guardian_pid, -number, -signal.SIGKILL)

    def times_out(self) -> None:
        """A wait comes to its end before the program does."""
        child, _ = self.start(endless(self.luck, self.world, self.null))
        for _ in range(3):
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = child.wait(self.luck.random() ** 2 * 0.02)
                self.world.check("early", code, child.guardian_pid, -signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        self.world.check("killed", child.wait(), child.guardian_pid, -signal.SIGKILL)

    def fails(self) -> None:
        """What cannot be started raises."""
        command, options, number = self.luck.choice(FAILING)
        try:
            child = aiopidfd.spawn(command, **options)
        except OSError as exc:
            if exc.errno != number:
                raise
        else:
            raise WrongError(f"{command} {options} was started: {child}")

    def dropped(self) -> None:
        """A handle is dropped while its program runs."""
        program = ending(self.luck, self.world, self.null)
        program.options["stdout"] = DEVNULL
        self.start(program)

    def waited_for_by_many(self) -> None:
        """Several threads wait for one program."""
        program = ending(self.luck, self.world, self.null)
        program.options["stdout"] = DEVNULL
        child, _ = self.start(program)
        name = f"{self.name} waiter"

        def wait() -> None:
            with self.world.action(threading.current_thread().name, "waits"):
                program.check(self.world, child.wait(), child.guardian_pid, None)

        threads = [threading.Thread(target=wait, name=f"{name} {n}") for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
