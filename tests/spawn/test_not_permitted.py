"""A sink fails, and we may not end the program: every call tells both, and the program runs on."""

import os

import pytest

from .. import fresh

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="setresuid(2) is root's")

CALLS = {
    "run_process": "asyncio.run(aiopidfd.run_process(script, stdout=sink, grace=0.1))",
    "supervise": "asyncio.run(aiopidfd.supervise(script, stdout=sink, grace=0.1))",
    "run_pipeline": "asyncio.run(aiopidfd.run_pipeline(argv, ['cat'], stdout=sink, grace=0.1))",
    "anyio.run_process": "anyio.run(partial(run_process, script, stdout=sink, grace=0.1))",
    "on trio": "anyio.run(partial(run_process, script, stdout=sink, grace=0.1), backend='trio')",
    "anyio.supervise": "anyio.run(partial(supervise, script, stdout=sink, grace=0.1))",
    "anyio.run_pipeline": "anyio.run(partial(run_pipeline, argv, ['cat'], stdout=sink, grace=0.1))",
    "subprocess.run": "run(script, shell=True, stdout=sink)",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=[*CALLS])
def test_a_sink_fails_and_the_program_may_not_be_ended(call: str) -> None:
    fresh.run(
        f"""
        import anyio
        from functools import partial
        from aiopidfd.anyio import run_pipeline, run_process, supervise
        from aiopidfd.subprocess import run
        from tests.census import soon
        script = "echo $$; exec sleep 2"  # which subprocess.run() waits for, as the standard one
        argv = ["sh", "-c", script]
        pids = []

        def sink(line):
            pids.append(int(line))
            os.setresuid(65534, 65534, 0)
            raise ZeroDivisionError

        try:
            {call}
        except ExceptionGroup as group:
            found = sorted(type(exc).__name__ for exc in group.exceptions)
            assert found == ["PermissionError", "ZeroDivisionError"], found
        else:
            raise AssertionError
        os.setresuid(0, 0, 0)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[0], signal.SIGKILL)
        # Its loop is closed, so the next start reaps the guardian.
        assert soon(lambda: aiopidfd.spawn(["true"]).wait() == 0 and not child_pids())
        """
    )
