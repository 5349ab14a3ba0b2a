"""Our ends of a program's pipes, as streams of asyncio's."""

import asyncio
from typing import Final, NamedTuple

from .._spawn.program import Program
from .._spawn.stdio_and_pass_fds import Descriptors
from .._streams.pipe_reader import OutputReader, PipeReader
from .._streams.pipe_writer import PipeWriter, open_writer
from .._streams.terminal import Terminal

__all__ = ["NO_STREAMS", "Streams", "open_streams", "reader_of"]


class Streams(NamedTuple):
    """Our ends of the program's pipes."""

    stdin: PipeWriter | None
    stdout: OutputReader | None
    stderr: OutputReader | None
    terminal: Terminal | None

    def readers(self) -> list[OutputReader]:
        """The readers of those outputs that are pipes."""
        return [reader for reader in (self.stdout, self.stderr) if reader is not None]

    def close(self) -> None:
        """Close them all. Input that was not written yet is lost."""
        if self.stdin is not None:
            self.stdin.transport.abort()
        for reader in self.readers():
            reader.close()
        if self.terminal is not None:
            self.terminal.close()

    def let_go(self) -> None:
        """Close them after the exit. What the program has written can still be read."""
        if self.stdin is not None:
            self.stdin.close()
        for reader in self.readers():
            reader.close_after_exit()


def reader_of(output: OutputReader | None) -> PipeReader | None:
    """The stream that a user reads."""
    return None if output is None else output.reader


NO_STREAMS: Final = Streams(None, None, None, None)


def open_streams(program: Program, descriptors: Descriptors, limit: int) -> Streams:
    """Open our ends of a program's pipes. If that fails, the program is killed."""
    loop = asyncio.get_running_loop()
    streams = NO_STREAMS
    try:
        if (fd := descriptors.hand_over_terminal()) is not None:
            streams = streams._replace(terminal=Terminal(fd))

        def terminal_of(number: int) -> Terminal | None:
            return streams.terminal if number in descriptors.on_terminal else None

        if (fd := descriptors.hand_over(0)) is not None:
            watch = descriptors.watches.pop() if 0 in descriptors.on_terminal else None
            streams = streams._replace(stdin=open_writer(loop, fd, watch))
        if (fd := descriptors.hand_over(1)) is not None:
            streams = streams._replace(stdout=OutputReader(loop, fd, limit, terminal_of(1)))
        if (fd := descriptors.hand_over(2)) is not None:
            streams = streams._replace(stderr=OutputReader(loop, fd, limit, terminal_of(2)))
        if streams.terminal is not None and not descriptors.reads_terminal:
            streams.terminal.drop_output(loop, descriptors.watches.pop())
    except BaseException:
        program.abandon()  # first of all: the program must not read the end of file
        streams.close()
        raise
    return streams
