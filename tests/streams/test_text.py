"""Text streams: encodings, newlines, and characters that a chunk's end cuts in two."""

import asyncio
import locale
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

import aiopidfd
from aiopidfd import PIPE, TextProcess

from ..support import hang_guard, python, sh, turns, until


@pytest.fixture(autouse=True)
async def _guard() -> AsyncIterator[None]:
    with hang_guard():
        yield


async def cat(**options: Any) -> TextProcess:
    process = await aiopidfd.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE, **options)
    assert isinstance(process, TextProcess)
    return process


async def say(data: bytes, **options: Any) -> TextProcess:
    """A program that has written these bytes, in one go."""
    script = "import os, sys; os.write(1, bytes.fromhex(sys.argv[1]))"
    process = await aiopidfd.create_subprocess_exec(
        *python(script, data.hex()), stdout=PIPE, **options
    )
    assert isinstance(process, TextProcess)
    return process


# Which options make it text

OURS = "utf-8" if sys.flags.utf8_mode else locale.getencoding()


@pytest.mark.parametrize(
    ("options", "encoding", "errors"),
    [
        ({"text": True}, OURS, "strict"),
        ({"universal_newlines": True}, OURS, "strict"),
        ({"encoding": "latin-1"}, "latin-1", "strict"),
        ({"errors": "replace"}, OURS, "replace"),
        ({"text": True, "encoding": "utf-16"}, "utf-16", "strict"),
        ({"text": False, "encoding": "utf-8"}, "utf-8", "strict"),
    ],
    ids=str,
)
async def test_options_that_make_it_text(
    options: dict[str, Any], encoding: str, errors: str
) -> None:
    process = await aiopidfd.create_subprocess_exec(
        *sh("cat; cat >&2"), stdin=PIPE, stdout=PIPE, stderr=PIPE, **options
    )
    assert isinstance(process, TextProcess)
    for stream in (process.stdin, process.stdout, process.stderr):
        assert stream is not None
        assert (stream.encoding, stream.errors) == (encoding, errors)
    assert await process.communicate() == ("", "")


async def test_no_option_makes_it_bytes() -> None:
    for options in ({}, {"text": False}, {"text": None, "encoding": None, "errors": None}):
        process = await aiopidfd.create_subprocess_exec("/bin/echo", stdout=PIPE, **options)
        assert type(process) is aiopidfd.Process
        assert await process.communicate() == (b"\n", None)


async def test_shell() -> None:
    process = await aiopidfd.create_subprocess_shell("echo x", stdout=PIPE, text=True)
    assert await process.communicate() == ("x\n", None)
    assert repr(process) == (
        f"<TextProcess pid={process.pid} returncode=0 stdout=<ReadPipe closed>>"
    )


async def test_it_has_what_a_process_has() -> None:
    async with await cat(text=True) as process:
        assert process.returncode is None
        assert process.pidfd >= 0
        process.kill()
        assert await process.wait() == process.returncode == -9


async def test_streams_that_were_not_asked_for() -> None:
    process = await aiopidfd.create_subprocess_exec("/bin/true", text=True)
    assert (process.stdin, process.stdout, process.stderr) == (None, None, None)
    assert await process.communicate() == (None, None)


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "no-such-encoding"},
        {"text": True, "errors": "no-such-handler"},
        {"encoding": "utf-8", "errors": "no-such-handler"},
        {"encoding": "rot13"},  # a codec, but none for bytes
        {"encoding": "hex"},
    ],
    ids=str,
)
@pytest.mark.parametrize("how", ["exec", "shell", "run"])
async def test_a_bad_encoding_is_told_before_anything_starts(
    options: dict[str, Any], how: str, tmp_path: Any
) -> None:
    script = "touch started"
    error: BaseException | None = None
    try:
        if how == "run":
            await aiopidfd.run_process(sh(script), cwd=tmp_path, **options)
        elif how == "shell":
            process = await aiopidfd.create_subprocess_shell(script, cwd=tmp_path, **options)
            await process.wait()
        else:
            process = await aiopidfd.create_subprocess_exec(*sh(script), cwd=tmp_path, **options)
            await process.wait()
    except LookupError as exc:
        error = exc
    assert (type(error), os.listdir(tmp_path)) == (LookupError, [])


# Newlines

NEWLINES = b"unix\ndos\r\nmac\rboth\n\r\r\nend\r"


async def test_universal_newlines() -> None:
    expected = subprocess.run(
        ["printf", "%b", NEWLINES.decode("unicode_escape")], text=True, stdout=PIPE
    ).stdout
    assert expected == "unix\ndos\nmac\nboth\n\n\nend\n"
    assert (await (await say(NEWLINES, text=True)).communicate())[0] == expected
    process = await say(NEWLINES, text=True)
    assert process.stdout is not None
    assert await process.stdout.read() == expected
    assert await process.wait() == 0


async def test_lines_with_universal_newlines() -> None:
    process = await say(NEWLINES, text=True)
    assert process.stdout is not None
    lines = [line async for line in process.stdout]
    assert lines == ["unix\n", "dos\n", "mac\n", "both\n", "\n", "\n", "end\n"]
    assert await process.stdout.readline() == ""
    assert await process.wait() == 0


async def test_a_newline_that_is_cut_in_two() -> None:
    process = await cat(text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("one\r")
    task = asyncio.create_task(process.stdout.read(4))
    await turns()
    process.stdin.write("\ntwo\r\n")
    text = await task
    process.stdin.close()
    assert text + await process.stdout.read() == "one\ntwo\n"
    assert await process.wait() == 0


async def test_written_newlines_are_left_alone() -> None:
    process = await aiopidfd.create_subprocess_exec(
        "od", "-An", "-c", stdin=PIPE, stdout=PIPE, text=True
    )
    out, _ = await process.communicate("a\nb\r\nc\r")
    assert out is not None
    assert out.split() == ["a", r"\n", "b", r"\r", r"\n", "c", r"\r"]


# Characters cut by the end of a chunk


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32-be", "shift_jis", "gb18030"])
async def test_every_byte_by_itself(encoding: str) -> None:
    text = "aé日本\n二\nx" if encoding in ("utf-8", "gb18030") else "a日本\n二\nx"
    process = await aiopidfd.create_subprocess_exec(
        "cat", stdin=PIPE, stdout=PIPE, encoding=encoding
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    read = ""
    for byte in text.encode(encoding):
        stdin.buffer.write(bytes([byte]))
        await until(lambda: len(stdout.buffer._buffer) == 1)  # it has come by itself
        task = asyncio.create_task(stdout.read(1))
        await turns(3)
        if not task.done():  # no whole character yet; the byte is kept
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            read += task.result()
    stdin.close()
    assert read + await stdout.read() == text
    assert await process.wait() == 0


async def test_multibyte_characters_across_chunks() -> None:
    """64 KiB and an odd start: every chunk ends within a character."""
    text = "x" + "日" * 500_000 + "\n"
    process = await cat(encoding="utf-8")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(text)
    process.stdin.close()
    read = ""
    while part := await process.stdout.read(7777):
        read += part
    assert read == text
    assert await process.wait() == 0


async def test_a_character_that_never_ends() -> None:
    process = await say("日".encode()[:2], encoding="utf-8")
    with pytest.raises(UnicodeDecodeError):
        await process.communicate()
    assert await process.wait() == 0
    process = await say(b"a" + "日".encode()[:2], encoding="utf-8", errors="replace")
    assert process.stdout is not None
    assert await process.stdout.read() == "a\N{REPLACEMENT CHARACTER}"
    assert await process.wait() == 0


@pytest.mark.parametrize("errors", ["replace", "ignore", "surrogateescape", "backslashreplace"])
async def test_errors(errors: str) -> None:
    data = b"a\xffb\xc3"
    expected = data.decode("utf-8", errors)
    process = await say(data, encoding="utf-8", errors=errors)
    assert await process.communicate() == (expected, None)
    process = await say(data, encoding="utf-8", errors=errors)
    assert process.stdout is not None
    assert await process.stdout.read() == expected
    assert await process.wait() == 0


async def test_errors_strict_is_told_where_it_is_read() -> None:
    process = await say(b"fine\n\xff\n", encoding="utf-8")
    assert process.stdout is not None
    with pytest.raises(UnicodeDecodeError):
        await process.stdout.read()
    assert await process.wait() == 0


async def test_text_that_cannot_be_encoded() -> None:
    process = await cat(encoding="ascii")
    assert process.stdin is not None
    with pytest.raises(UnicodeEncodeError):
        process.stdin.write("é")
    with pytest.raises(UnicodeEncodeError):
        await process.communicate("é")
    assert await process.communicate("e") == ("e", None)


async def test_a_byte_order_mark_is_written_once() -> None:
    process = await cat(encoding="utf-16")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.writelines(["a", "b", "c"])
    process.stdin.close()
    assert await process.stdout.buffer.read() == "abc".encode("utf-16")
    assert await process.wait() == 0


# Reading


async def test_a_conversation() -> None:
    process = await cat(text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    for line in ("one\n", "zwei ü\n", "\n"):
        process.stdin.write(line)
        await process.stdin.drain()
        assert await process.stdout.readline() == line
    assert not process.stdout.at_eof()
    assert not process.stdin.is_closing()
    process.stdin.close()
    assert process.stdin.is_closing()
    await process.stdin.wait_closed()
    assert await process.stdout.readline() == ""
    assert process.stdout.at_eof()
    assert await process.wait() == 0


async def test_read_takes_characters_not_bytes() -> None:
    process = await say("日本語\n".encode(), encoding="utf-8")
    assert process.stdout is not None
    assert await process.stdout.read(0) == ""
    assert await process.stdout.read(2) == "日本"
    assert not process.stdout.at_eof()
    assert await process.stdout.read(100) == "語\n"
    assert await process.stdout.read(100) == ""
    assert await process.wait() == 0


async def test_long_lines() -> None:
    """Over any limit: of asyncio's 64 KiB, and of a small one of one's own."""
    line = "ü" * 1_000_000 + "\n"
    process = await cat(encoding="utf-8", limit=100)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("short\n" + line + "last")
    process.stdin.close()
    assert [text async for text in process.stdout] == ["short\n", line, "last"]
    assert await process.wait() == 0


async def test_a_cancelled_readline_loses_nothing() -> None:
    process = await cat(encoding="utf-8")
    assert process.stdin is not None
    assert process.stdout is not None
    stdout = process.stdout
    task = asyncio.create_task(stdout.readline())
    process.stdin.buffer.write("half a l日".encode()[:-1])
    await until(lambda: "".join(stdout._later) == "half a l")  # and a piece of a character
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    process.stdin.buffer.write("日".encode()[-1:] + b"ine\nnext\n")
    process.stdin.close()
    assert await stdout.readline() == "half a l日ine\n"
    assert await stdout.readline() == "next\n"
    assert await process.wait() == 0


async def test_a_cancelled_read_to_the_end_loses_nothing() -> None:
    process = await cat(encoding="utf-8")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("first\n")
    await process.stdin.drain()
    assert await process.stdout.read(1) == "f"
    task = asyncio.create_task(process.stdout.read())
    process.stdin.write("日 second")
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    process.stdin.close()
    assert await process.stdout.read() == "irst\n日 second"
    assert await process.wait() == 0


async def test_communicate_after_a_line_was_read() -> None:
    process = await say("one\ntwo ü\n".encode(), encoding="utf-8")
    assert process.stdout is not None
    assert await process.stdout.readline() == "one\n"
    assert await process.communicate() == ("two ü\n", None)


async def test_communicate_after_part_of_a_line_was_read() -> None:
    """What the text reader has taken from the byte stream is output, too."""
    process = await say("one\ntwo ü\n".encode(), encoding="utf-8")
    assert process.stdout is not None
    assert await process.stdout.read(2) == "on"
    assert await process.communicate() == ("e\ntwo ü\n", None)


async def test_close() -> None:
    process = await aiopidfd.create_subprocess_exec("yes", stdout=PIPE, text=True)
    assert process.stdout is not None
    assert await process.stdout.readline() == "y\n"
    process.stdout.close()
    assert await process.wait() == -13


# communicate()


async def test_communicate() -> None:
    process = await aiopidfd.create_subprocess_exec(
        *sh("cat; echo Fehler ü >&2"), stdin=PIPE, stdout=PIPE, stderr=PIPE, encoding="utf-8"
    )
    text = "grüße\n" * 50_000
    assert await process.communicate(text) == (text, "Fehler ü\n")


async def test_communicate_takes_only_str() -> None:
    process = await cat(text=True)
    with pytest.raises(TypeError, match="input must be str, not bytes"):
        await process.communicate(b"bytes")  # type: ignore[arg-type]
    assert await process.communicate("text") == ("text", None)


async def test_cancelled_communicate_loses_nothing() -> None:
    process = await aiopidfd.create_subprocess_exec(
        *sh("echo ä; read x; echo $x"), stdin=PIPE, stdout=PIPE, encoding="utf-8"
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdout = process.stdout.buffer
    # Without stdin, which communicate() would close.
    task = asyncio.create_task(stdout.read())
    await until(lambda: stdout._gathered is not None and stdout._gathered.tell() == 3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await process.communicate("ö\n") == ("ä\nö\n", None)
