"""`communicate`: input is sent, all output is gathered, and then the exit is awaited."""

import asyncio
import contextlib

from .._pidfd.durations import check_seconds
from .._spawn.choose_sinks import Output
from .._spawn.encoding import check_bytes
from .._spawn.kept_output import NOTHING_IS_CAPTURED, Outputs
from .._spawn.output_limit import OnLimit, check_limit
from .._streams.pipe_reader import OutputReader
from .carry_to_sinks import carry_output
from .exit_on_loop import Watch
from .process_streams import Streams
from .pumps import make_pumps

__all__ = ["Communication", "communicate", "gather", "send_input"]


class Communication:
    """The calls of `communicate` on one process. Each goes on where a cancelled one has stopped."""

    def __init__(self, watch: Watch, streams: Streams, grace: float) -> None:
        """Nothing was sent yet, and nothing was read."""
        self._watch = watch
        self._streams = streams
        self._grace = grace
        self._begun = False
        self._carries = False  # whether a call with a limit is under way
        self._bounded: Outputs | None = None  # kept when a call is cancelled
        self._limits: tuple[int | None, OnLimit] = (None, "raise")

    @property
    def dropped(self) -> tuple[int, int]:
        """How many bytes of (stdout, stderr) were not kept because of the limit."""
        return (0, 0) if self._bounded is None else self._bounded.dropped()

    async def call(
        self,
        input: bytes | None,
        drain: float | None,
        output_limit: int | None,
        on_limit: OnLimit,
        encoding: str | None = None,
    ) -> tuple[bytes | None, bytes | None]:
        """One call; see `Process.communicate`.

        With an encoding, without the pieces of characters that a limit has cut.
        """
        check_seconds(drain=drain)
        check_limit(output_limit, on_limit)
        if output_limit is not None and not self._streams.readers():
            raise ValueError(NOTHING_IS_CAPTURED)
        if input is not None:
            if self._streams.stdin is None:
                raise ValueError("input was given, but stdin is neither PIPE nor PTY")
            if self._begun and input:
                raise ValueError("Cannot send input after starting communication")
            check_bytes(input)
        if self._bounded is not None and (output_limit, on_limit) not in (
            self._limits,
            (None, "raise"),
        ):
            raise ValueError("communicate() was called before with another limit")
        if self._carries:  # its readers may not have begun yet
            raise RuntimeError(
                "communicate() called while another coroutine is already waiting for incoming data"
            )
        with gather(self._streams):
            self._begun = True
            if self._bounded is None and output_limit is None:
                return await communicate(self._watch, self._streams, input, drain)
        if self._bounded is None:
            self._limits = output_limit, on_limit
            choices = [Output(None, (), reader is not None) for reader in self._streams[1:3]]
            self._bounded = Outputs(
                self._watch.program.args, (choices[0], choices[1]), *self._limits
            )
        bounded = self._bounded
        send_input(self._streams, input)
        pumps = make_pumps(self._streams.stdout, self._streams.stderr, bounded)
        self._carries = True
        try:
            await carry_output([self._watch], pumps, self._grace, drain, ends=False)
        except Exception as exc:
            bounded.tell(exc)
            raise
        finally:
            self._carries = False
        await self._watch.returncode()
        bounded.check_dropped()
        return bounded.values(encoding)


def send_input(streams: Streams, input: bytes | None) -> None:
    """Write the input, if any, and close stdin. The loop completes both in the background."""
    if streams.stdin is not None:
        if input:
            streams.stdin.write(input)
        streams.stdin.close()  # the loop closes it once everything is written


def gather(streams: Streams) -> contextlib.ExitStack:
    """The loop takes in all output, whatever the limit, until this is closed.

    So a cancellation loses nothing. Raises RuntimeError if another task reads.
    """
    with contextlib.ExitStack() as gathering:
        for reader in streams.readers():
            gathering.enter_context(reader.gathering())
        return gathering.pop_all()


async def communicate(
    watch: Watch, streams: Streams, input: bytes | None, drain: float | None
) -> tuple[bytes | None, bytes | None]:
    """Send input, close stdin, gather all output, wait for the exit. See `Process.communicate`."""
    send_input(streams, input)
    readers = streams.readers()
    await watch.returncode()
    await _read_to_end(readers, drain)
    stdout = None if streams.stdout is None else streams.stdout.take_all()
    stderr = None if streams.stderr is None else streams.stderr.take_all()
    for reader in readers:
        reader.close()  # a grandchild may hold the other end
    return stdout, stderr


async def _read_to_end(readers: list[OutputReader], drain: float | None) -> None:
    """Wait for the end of the output; after the exit, for `drain` seconds at most.

    By then the pipes hold all that the program itself wrote. A grandchild may hold them open for
    ever.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(drain):
            for reader in readers:
                await reader.ended()
    for reader in readers:
        reader.drain()
