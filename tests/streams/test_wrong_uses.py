"""What is said of a wrong use speaks of what the user has, on each kind of stream."""

import array
import math
import re
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import aiopidfd
import aiopidfd.anyio
from aiopidfd import PIPE, PTY

from ..anyio_support import Backend, backends
from ..support import hang_guard

KINDS: dict[str, dict[str, Any]] = {
    "binary": {"stdin": PIPE, "stdout": PIPE},
    "text": {"stdin": PIPE, "stdout": PIPE, "encoding": "utf-8"},
    "terminal": {"stdin": PTY, "stdout": PTY},
}
BINARY = ("binary", "terminal")
ALL = (*BINARY, "text")

Wrong = tuple[tuple[str, ...], Callable[[Any], Any], str]

READS: dict[str, Wrong] = {
    "read('x')": (ALL, lambda out: out.read("x"), "TypeError: 'str' object cannot be .* integer"),
    "read(None)": (ALL, lambda out: out.read(None), "TypeError: 'NoneType' object cannot be .*"),
    "read(1.5)": (ALL, lambda out: out.read(1.5), "TypeError: 'float' object cannot be .* integer"),
    "read(nan)": (ALL, lambda out: out.read(math.nan), "TypeError: 'float' object cannot be .*"),
    "readexactly(-1)": (
        ALL,
        lambda out: out.readexactly(-1),
        "ValueError: readexactly size can not be less than zero",
    ),
    "readexactly('x')": (ALL, lambda out: out.readexactly("x"), "TypeError: 'str' object .*"),
    "readexactly(None)": (ALL, lambda out: out.readexactly(None), "TypeError: 'NoneType' .*"),
    "readexactly(nan)": (ALL, lambda out: out.readexactly(math.nan), "TypeError: 'float' .*"),
    "too short": (
        ("binary",),
        lambda out: out.readexactly(1000),
        "IncompleteReadError: 7 bytes read on a total of 1000 expected bytes",
    ),
    "too short, text": (
        ("text",),
        lambda out: out.readexactly(1000),
        "IncompleteReadError: 7 characters read on a total of 1000 expected characters",
    ),
    "no separator": (
        ("text",),
        lambda out: out.readuntil("z"),
        "IncompleteReadError: 7 characters read on a total of undefined expected characters",
    ),
    "readuntil(b'')": (
        BINARY,
        lambda out: out.readuntil(b""),
        "ValueError: Separator should be at least one-byte string",
    ),
    "readuntil('')": (
        ("text",),
        lambda out: out.readuntil(""),
        "ValueError: Separator should be at least one-character string",
    ),
    "readuntil('x')": (
        BINARY,
        lambda out: out.readuntil("x"),
        "TypeError: separator must be bytes-like, not str",
    ),
    "readuntil(b'x')": (
        ("text",),
        lambda out: out.readuntil(b"x"),
        "TypeError: separator must be str, not bytes",
    ),
    "readuntil(5)": (ALL, lambda out: out.readuntil(5), "TypeError: separator must be .*, not int"),
    "readuntil(None)": (
        ALL,
        lambda out: out.readuntil(None),
        "TypeError: separator must be .*, not NoneType",
    ),
    "readuntil(('x',))": (
        ALL,
        lambda out: out.readuntil(("x",)),
        "TypeError: separator must be .*, not (str|tuple)",
    ),
    "read(1, 2)": (ALL, lambda out: out.read(1, 2), r"TypeError: (Pipe|Text)Reader.read\(\) .*"),
    "write": (ALL, lambda out: out.write(b""), "AttributeError: '(Pipe|Text)Reader' object .*"),
    "for": (ALL, iter, "TypeError: '(Pipe|Text)Reader' object is not iterable"),
    "len": (ALL, len, r"TypeError: object of type '(Pipe|Text)Reader' has no len\(\)"),
}
WRITES: dict[str, Wrong] = {
    "write('x')": (
        BINARY,
        lambda stdin: stdin.write("x"),
        "TypeError: data: expected a bytes-like object, got str",
    ),
    "write(b'x')": (
        ("text",),
        lambda stdin: stdin.write(b"x"),
        r"TypeError: write\(\) argument must be str, not bytes",
    ),
    "write(None)": (ALL, lambda stdin: stdin.write(None), "TypeError: .*NoneType"),
    "write(5)": (ALL, lambda stdin: stdin.write(5), "TypeError: .*int"),
    "write(array)": (ALL, lambda stdin: stdin.write(array.array("i")), "TypeError: .*array"),
    "close(), write(5)": (
        ALL,
        lambda stdin: (stdin.close(), stdin.write(5)),
        "TypeError: .*int",
    ),
    "writelines('x')": (
        BINARY,
        lambda stdin: stdin.writelines("x"),
        "TypeError: sequence item 0: expected a bytes-like object, str found",
    ),
    "writelines(b'x')": (ALL, lambda stdin: stdin.writelines(b"x"), "TypeError: .*int.*"),
    "writelines(5)": (ALL, lambda stdin: stdin.writelines(5), "TypeError: .* iterable"),
    "an encoding that lacks it": (
        ("text",),
        lambda stdin: stdin.write("\udc80"),
        "UnicodeEncodeError: 'utf-8' codec can't encode character .*",
    ),
    "close(), drain()": (
        ("binary", "text"),
        lambda stdin: (stdin.close(), stdin.drain())[1],
        "ConnectionResetError: Connection lost",
    ),
    "start_tls": (
        BINARY,
        lambda stdin: stdin.start_tls(None),
        "TypeError: start_tls.* is for sockets, and a program's stdin is none",
    ),
    "read": (ALL, lambda stdin: stdin.read(), "AttributeError: '(Pipe|Text)Writer' object .*"),
}
INTERNAL = re.compile(
    r"Output|_\w+Protocol|Terminal[RW]|_encode\(|find\(|slice indices|not supported between"
)


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


def cases(table: dict[str, Wrong]) -> list[Any]:
    return [
        pytest.param(kind, call, expected, id=f"{kind}-{name}")
        for name, (kinds, call, expected) in table.items()
        for kind in kinds
    ]


async def said(call: Callable[[Any], Any], stream: Any) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011, PT012
        result = call(stream)
        if hasattr(result, "__await__"):
            await result
    return f"{caught.type.__name__}: {caught.value}"


@pytest.mark.parametrize(("kind", "call", "expected"), cases(READS))
async def test_of_a_reader(kind: str, call: Callable[[Any], Any], expected: str) -> None:
    process: Any = await aiopidfd.create_subprocess_exec("cat", **KINDS[kind])
    process.stdin.write("one\ntwo" if kind == "text" else b"one\ntwo")
    process.stdin.close()
    text = await said(call, process.stdout)
    assert re.fullmatch(expected, text)
    assert not INTERNAL.search(text)
    await process.aclose(grace=0)


@pytest.mark.parametrize(("kind", "call", "expected"), cases(WRITES))
async def test_of_a_writer(kind: str, call: Callable[[Any], Any], expected: str) -> None:
    process: Any = await aiopidfd.create_subprocess_exec("cat", **KINDS[kind])
    text = await said(call, process.stdin)
    assert re.fullmatch(expected, text)
    assert not INTERNAL.search(text)
    await process.aclose(grace=0)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0, "ValueError: Limit cannot be <= 0"),
        (-1, "ValueError: Limit cannot be <= 0"),
        (math.nan, "ValueError: Limit cannot be <= 0"),
        ("x", "TypeError: limit must be a number of bytes, not str"),
        (None, "TypeError: limit must be a number of bytes, not NoneType"),
    ],
)
async def test_of_a_limit(limit: Any, expected: str) -> None:
    def start(_: Any) -> Any:
        return aiopidfd.create_subprocess_exec("/no/such/program", limit=limit)

    assert await said(start, None) == expected


@pytest.mark.skipif(sys.version_info < (3, 13), reason="one separator alone can be given")
async def test_several_separators() -> None:
    process: Any = await aiopidfd.create_subprocess_exec("echo", "one,two", stdout=PIPE)
    assert await process.stdout.readuntil((b",", bytearray(b"\n"))) == b"one,"
    assert await process.stdout.readuntil((b",", b"\n")) == b"two\n"
    assert await process.wait() == 0


ON_ANYIO: dict[str, tuple[Callable[[Any], Any], str]] = {
    "receive(0)": (
        lambda process: process.stdout.receive(0),
        "ValueError: max_bytes must be a positive integer",
    ),
    "receive('x')": (lambda process: process.stdout.receive("x"), "TypeError: 'str' object .*"),
    "receive(None)": (lambda process: process.stdout.receive(None), "TypeError: 'NoneType' .*"),
    "receive(nan)": (lambda process: process.stdout.receive(math.nan), "TypeError: 'float' .*"),
    "send('x')": (
        lambda process: process.stdin.send("x"),
        "TypeError: item must be bytes-like, not str",
    ),
    "send(5)": (
        lambda process: process.stdin.send(5),
        "TypeError: item must be bytes-like, not int",
    ),
}


@backends("asyncio", "trio")
@pytest.mark.parametrize("kind", [PIPE, PTY])
def test_on_anyio(backend: Backend, kind: int) -> None:
    async def main() -> None:
        process = await aiopidfd.anyio.open_process(["cat"], stdin=kind, stdout=kind, stderr=None)
        for name, (call, expected) in ON_ANYIO.items():
            assert re.fullmatch(expected, await said(call, process)), name
        process.kill()
        await process.aclose()
        assert await said(lambda stdin: stdin.send(b"x"), process.stdin) == "ClosedResourceError: "

    backend.run(main)
