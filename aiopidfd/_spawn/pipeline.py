"""Several programs, each of which reads what the one before it writes. This needs no loop."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from signal import SIGPIPE
from subprocess import CalledProcessError, TimeoutExpired
from typing import Any, AnyStr, Final, Generic

from .._pidfd.arguments import flag
from .._pidfd.durations import check_seconds
from .choose_sinks import Output, StreamSink, read_choices
from .command import check_command, is_shell_command
from .encoding import Text
from .failures import errors_in
from .fds_above_stdio import pipe_above_stdio
from .idle_timeout import IdleTimeoutError
from .kept_output import Outputs
from .open_terminal import PTY
from .options import Command, Request, Stdio, make_request
from .output_limit import OnLimit, check_limit
from .pipe_size import pipe_size, set_pipe_size
from .run_arguments import BOTH_INPUTS, read_input
from .sinks import Decoder, Sink
from .stdio_and_pass_fds import descriptor_of

__all__ = ["CompletedPipeline", "PipelineError", "Stages"]

# How a program ends when its reader has gone: by the signal, or with the shell's number for it.
_HAD_ENOUGH: Final = (-SIGPIPE, 128 + SIGPIPE)


@dataclass(frozen=True)
class CompletedPipeline(Generic[AnyStr]):
    """The result of a pipeline. A list or tuple has one entry for each program, in their order.

    Attributes:
        args: the commands.
        returncodes: all return codes, unchanged.
        stdout: what the last program wrote, or None if it was not captured.
        stderrs: what each program wrote to its stderr, or None.
        stdout_dropped: how many bytes of stdout were not kept, because of `output_limit`.
        stderrs_dropped: the same for each stderr.
    """

    args: tuple[Command, ...]
    returncodes: tuple[int, ...]
    stdout: AnyStr | None
    stderrs: tuple[AnyStr | None, ...]
    stdout_dropped: int = 0
    stderrs_dropped: tuple[int, ...] = ()

    @property
    def returncode(self) -> int:
        """The return code of the last program that failed, or 0: as with `set -o pipefail`.

        A program before the last that ended by SIGPIPE, or with 141, has not failed: the program
        that reads from it stopped reading.
        """
        failed = self._failed()
        return 0 if failed is None else self.returncodes[failed]

    def check_returncode(self) -> None:
        """Raise PipelineError if the return code is not 0."""
        failed = self._failed()
        if failed is not None:
            raise PipelineError(
                self.returncodes[failed],
                self.args[failed],
                self.stdout,
                self.stderrs[failed],
                self,
            )

    def _failed(self) -> int | None:
        last = len(self.returncodes) - 1
        for number in range(last, -1, -1):
            code = self.returncodes[number]
            if code and (number == last or code not in _HAD_ENOUGH):
                return number
        return None


class PipelineError(CalledProcessError):
    """A program of a pipeline has failed.

    Attributes:
        returncode, cmd, stderr: those of the last program that failed.
        output, stdout: what the last program of the pipeline wrote.
        result: the `CompletedPipeline`.
    """

    def __init__(
        self, returncode: int, cmd: Any, output: Any, stderr: Any, result: CompletedPipeline[Any]
    ) -> None:
        """Keep all of it as it is given."""
        super().__init__(returncode, cmd, output, stderr)
        self.result = result


class Stages:
    """The programs of a pipeline: how to start them, and what is kept of their outputs.

    Attributes:
        commands: as they were given.
        input: what the first program's stdin gets before it is closed; None: nothing.
        outputs: the outputs of each program.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        stdio: tuple[Stdio, Any, Any],
        input: Any,
        text: Text,
        stream_sink: StreamSink,
        *,
        check: bool,
        output_limit: int | None,
        on_limit: OnLimit,
        idle_timeout: float | None,
        both: str = BOTH_INPUTS,
        **seconds: float | None,
    ) -> None:
        """Interpret what a caller wants. The arguments are those of `read_call`.

        Raises:
            TypeError, ValueError: there is no command, or something is not valid.
        """
        flag("check", check)
        check_seconds(idle_timeout=idle_timeout, **seconds)
        check_limit(output_limit, on_limit)
        self.input, self._stdin = read_input(input, stdio[0], text, (None,), both)
        if not commands:
            raise ValueError("a pipeline needs a command")
        if len(commands) == 1 and _is_many(commands[0]):
            raise TypeError("a pipeline takes its commands one by one, as *commands")
        if any(
            choice == PTY or (isinstance(choice, (list, tuple)) and PTY in choice)
            for choice in stdio
        ):
            raise ValueError("a pipeline has no terminal: PTY is for a program of its own")
        # A command is looked at before the first start, and again for its own.
        self.commands = tuple(
            [*command] if isinstance(command, Iterator) else command for command in commands
        )
        last = len(self.commands) - 1
        self._choices: list[tuple[Output, Output]] = []
        self.outputs: list[Outputs] = []
        for number, command in enumerate(self.commands):
            choices = read_choices(
                stdio[1] if number == last else None,
                stdio[2],
                None,
                text,
                stream_sink if number == last else _refuse(stream_sink),
                capturing=True,
            )
            self._choices.append(choices)
            self.outputs.append(Outputs(command, choices, output_limit, on_limit, text=text))
        if not any(any(outputs.sinks) for outputs in self.outputs):
            self.outputs[-1].check_idle(idle_timeout)
        if not any(any(outputs.captures) for outputs in self.outputs):
            self.outputs[-1].check_limit()

    @contextlib.contextmanager
    def requests(
        self, function: Callable[..., object], options: Mapping[str, Any]
    ) -> Iterator[list[Request]]:
        """What is to be started. When the block is left, our ends of the pipes are closed.

        A sequence runs a program, and a string is run by the shell.

        Raises:
            TypeError, ValueError: as `make_request`.
            OSError: EMFILE; EPERM: `pipesize` is more than we may set.
        """
        options = {  # each program looks at them
            name: tuple(value) if isinstance(value, Iterator) else value
            for name, value in options.items()
        }
        requests = [
            make_request(
                function,
                command,
                is_shell_command(command),
                (None, out.stdio, err.stdio),
                {**options},
            )
            for command, (out, err) in zip(self.commands, self._choices, strict=True)
        ]
        for request in requests:  # before the first program is started
            check_command(request.command, request.shell)
        if requests[-1].stdout is not None:
            descriptor_of("stdout", requests[-1].stdout)
        size = pipe_size(options.get("pipesize"))
        requests[0] = requests[0]._replace(stdin=self._stdin)
        with contextlib.ExitStack() as pipes:
            for number in range(1, len(requests)):
                read, write = pipe_above_stdio()
                pipes.callback(os.close, read)
                pipes.callback(os.close, write)
                set_pipe_size(write, size)
                requests[number - 1] = requests[number - 1]._replace(stdout=write)
                requests[number] = requests[number]._replace(stdin=read)
            yield requests

    def stdout(self) -> bytes | None:
        """What was captured of the last program's stdout."""
        return self.outputs[-1].values()[0]

    def all_stderr(self) -> bytes | None:
        """What was captured of all stderrs, one after the other."""
        values = [value for outputs in self.outputs if (value := outputs.values()[1]) is not None]
        return b"".join(values) if values else None

    def tell(self, exc: BaseException) -> None:
        """Store what was captured in an error of a limit or an idle timeout."""
        for outputs in self.outputs:
            outputs.tell(exc)
        for error in errors_in(exc):
            if isinstance(error, IdleTimeoutError):
                error.stdout, error.stderr = self.stdout(), self.all_stderr()

    def expired(self, timeout: float | None) -> TimeoutExpired:
        """The error for a timeout, with what was captured."""
        every: Any = [*self.commands]
        read = self.stdout() or None, self.all_stderr() or None
        return TimeoutExpired(every, timeout or 0, *read)

    async def abort(self) -> None:
        """Tell all sinks that nobody carries the outputs any more. Waits for nothing."""
        for outputs in self.outputs:
            await outputs.abort()

    def result(self, returncodes: Sequence[int]) -> CompletedPipeline[Any]:
        """The result of the pipeline, with text if that was asked for."""
        values = [outputs.result() for outputs in self.outputs]
        dropped = [outputs.dropped() for outputs in self.outputs]
        return CompletedPipeline(
            self.commands,
            tuple(returncodes),
            values[-1][0],
            tuple(err for _, err in values),
            dropped[-1][0],
            tuple(count for _, count in dropped),
        )


def _refuse(stream_sink: StreamSink) -> StreamSink:
    """Refuse a stream for all programs but the last: it is closed at the end of one program."""

    def refuse(choice: object, decode: Decoder) -> Sink | None:
        if stream_sink(choice, decode) is not None:
            raise ValueError("several programs cannot share a stream for stderr: use a function")
        return None

    return refuse


def _is_many(command: Any) -> bool:
    """Whether it is a list of commands, and not one."""
    is_list = isinstance(command, (list, tuple)) and len(command) > 1
    return is_list and all(isinstance(each, (list, tuple)) for each in command)
