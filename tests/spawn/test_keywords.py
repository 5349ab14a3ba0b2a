"""A keyword that a function does not take is refused, and the hint is one for this function."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import aiopidfd
import aiopidfd.anyio

from ..anyio_support import BACKENDS, Backend, backends
from ..support import hang_guard

CALLS: dict[str, Callable[..., Any]] = {
    "create_subprocess_exec": lambda **o: aiopidfd.create_subprocess_exec("/no/such", **o),
    "create_subprocess_shell": lambda **o: aiopidfd.create_subprocess_shell(
        "exit 99", cwd="/no/such", **o
    ),
    "run_process": lambda **o: aiopidfd.run_process(["/no/such"], **o),
    "spawn": lambda **o: aiopidfd.spawn(["/no/such"], **o),
    "anyio.open_process": lambda **o: aiopidfd.anyio.open_process(["/no/such"], **o),
    "anyio.run_process": lambda **o: aiopidfd.anyio.run_process(["/no/such"], **o),
    "anyio.supervise": lambda **o: aiopidfd.anyio.supervise(["/no/such"], **o),
}
LOOP_CALLS = ("subprocess_exec", "subprocess_shell")
TAKES = {
    "timeout": {"run_process", "anyio.run_process"},
    "grace": {*CALLS} - {"spawn", "anyio.open_process"},
    "limit": {"create_subprocess_exec", "create_subprocess_shell"},
    "check": {"run_process", "anyio.run_process", "anyio.supervise"},
    "input": {"run_process", "anyio.run_process", "anyio.supervise"},
    "drain": {"run_process", "anyio.run_process", "anyio.supervise"},
    "task_status": {"anyio.supervise"},
    "shell": {"run_process", "spawn", "create_subprocess_exec", "create_subprocess_shell"},
    "bufsize": {"create_subprocess_exec", "create_subprocess_shell"},
    "text": {*CALLS} - {"spawn", "anyio.open_process"},
}


async def call(function: Callable[..., Any], **options: Any) -> Any:
    result = function(**options)
    return await result if isinstance(result, Awaitable) else result


async def refused(name: str, **options: Any) -> str:
    """The text after Python's own."""
    (keyword,) = options
    with hang_guard(), pytest.raises(TypeError) as caught:
        await call(CALLS[name], **options)
    own = f"{name.removeprefix('anyio.')}() got an unexpected keyword argument {keyword!r}"
    assert str(caught.value).startswith(own)
    return str(caught.value).removeprefix(own)


@pytest.mark.parametrize("keyword", TAKES)
@pytest.mark.parametrize("name", CALLS)
async def test_what_is_documented_elsewhere(name: str, keyword: str) -> None:
    if name in TAKES[keyword]:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            await call(CALLS[name], **{keyword: object()})
        assert "unexpected keyword" not in str(caught.value)
        return
    hint = await refused(name, **{keyword: 3})
    assert keyword == "task_status" or hint.startswith(": ")
    assert "did you mean" not in hint


@pytest.mark.parametrize("name", CALLS)
async def test_slips_of_the_pen(name: str) -> None:
    for slip, meant in {"cdw": "cwd", "stdot": "stdout", "rlimit": "rlimits", "evn": "env"}.items():
        if slip in ("cdw", "evn"):  # too short to be sure of
            await refused(name, **{slip: 1})
        else:
            assert await refused(name, **{slip: 1}) == f": did you mean {meant!r}?"
    expected = ": did you mean 'timeout'?" if name in TAKES["timeout"] else ": for 'timeout', "
    assert (await refused(name, tiemout=3)).startswith(expected)


@pytest.mark.parametrize("name", CALLS)
async def test_what_resembles_nothing_has_no_hint(name: str) -> None:
    for keyword in ("descriptors", "request", "x", "plan", "hub", "loop"):
        assert await refused(name, **{keyword: 1}) == ""


@pytest.mark.parametrize("name", CALLS)
async def test_what_subprocess_has_and_nobody_here(name: str) -> None:
    for keyword in ("capture_output", "preexec_fn", "startupinfo", "creationflags"):
        with hang_guard(), pytest.raises((TypeError, ValueError)) as caught:
            await call(CALLS[name], **{keyword: True})
        assert type(caught.value) is (TypeError if keyword == "capture_output" else ValueError)
        assert len(str(caught.value)) > 50 or "Windows" in str(caught.value)


@pytest.mark.parametrize("method", LOOP_CALLS)
@pytest.mark.parametrize("loop", [aiopidfd.EventLoop, aiopidfd.UvloopEventLoop])
def test_the_methods_of_a_loop(loop: Any, method: str) -> None:
    async def main() -> None:
        start = getattr(asyncio.get_running_loop(), method)
        for keyword in ("grace", "limit", "timeout", "tiemout", "request", "loop"):
            with pytest.raises(TypeError, match=f"^{method}.. got an .* argument '{keyword}'"):
                await start(asyncio.SubprocessProtocol, "/no/such", **{keyword: 3})

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main())


@backends(*BACKENDS)
def test_on_each_backend(backend: Backend) -> None:
    async def body() -> None:
        hints = {"open_process": "for", "run_process": "did you mean", "supervise": "for"}
        for name, hint in hints.items():
            message = f"^{name}.. got an unexpected .*: {hint} 'timeout'"
            with pytest.raises(TypeError, match=message):
                await getattr(aiopidfd.anyio, name)(["/no/such"], tiemout=1)

    backend.run(body)


async def test_a_program_is_not_taken_for_a_keyword() -> None:
    with pytest.raises(TypeError, match=r"run_process.. got multiple values .* 'command'"):
        await aiopidfd.anyio.run_process(["true"], command=["true"])


# Text by either name


@pytest.mark.parametrize(
    ("options", "output"),
    [
        ({}, b"x\n"),
        ({"text": True}, "x\n"),
        ({"universal_newlines": True}, "x\n"),
        ({"universal_newlines": True, "text": True}, "x\n"),
        ({"universal_newlines": False, "text": False}, b"x\n"),
        ({"universal_newlines": None, "text": False}, b"x\n"),
        ({"universal_newlines": False}, b"x\n"),
    ],
    ids=str,
)
async def test_text_by_either_name(options: dict[str, Any], output: Any) -> None:
    assert (await aiopidfd.run_process(["echo", "x"], **options)).stdout == output
    assert (await aiopidfd.anyio.run_process(["echo", "x"], **options)).stdout == output
    process = await aiopidfd.create_subprocess_exec("echo", "x", stdout=aiopidfd.PIPE, **options)
    assert await process.communicate() == (output, None)


@pytest.mark.parametrize("text", [True, False])
async def test_text_that_is_and_is_not(text: bool) -> None:
    names = "run_process", "anyio.run_process", "create_subprocess_exec", "create_subprocess_shell"
    for name in names:
        with pytest.raises(aiopidfd.SubprocessError, match="Cannot disambiguate when both"):
            await call(CALLS[name], text=text, universal_newlines=not text)
