import aiopidfd


async def test_run() -> None:
    result = await aiopidfd.run_process("echo out; echo err >&2; exit 3", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
