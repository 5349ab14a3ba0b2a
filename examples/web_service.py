"""A web service that runs a converter for each request: bounded, logged, timed, ended in order.

    pip install fastapi uvicorn uvloop
    python web_service.py PORT FOLDER

    curl -X POST 'localhost:PORT/convert?steps=5'     # its result, as JSON
    curl -N 'localhost:PORT/watch?steps=5'            # its progress, line by line

The converter is a shell script in the place of ffmpeg: it tells its progress on stderr, writes its
output to stdout, and leaves a helper in the background. The last bytes of the output are kept in
memory, the progress goes to a log in FOLDER as well. A converter that takes too long is ended, and
so is one whose watcher has gone. SIGTERM ends the service and all converters, which have a second
to tidy up. Even kill -9 leaves none of them: they are contained.
"""

import contextlib
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import DEVNULL, PIPE, TimeoutExpired
from typing import Any

try:
    import anyio
    import uvicorn
    from fastapi import FastAPI, HTTPException, Response
    from starlette.types import Receive, Scope, Send

    import aiopidfd
    import aiopidfd.anyio  # Starlette's cancellations are anyio's: these calls know them
except ModuleNotFoundError as exc:
    sys.exit(f"{exc.name} is needed: pip install fastapi uvicorn uvloop")

CONVERTER = """
trap 'echo "interrupted" >&2; exit 1' TERM
sleep 600 &  # a helper, which it forgets
for step in $(seq 1 "$1"); do
    echo "step $step of $1" >&2
    head -c 100000 /dev/zero | tr '\\0' "$2"
    sleep 0.05
done
"""

KEPT = 1000  # bytes of the output
TIMEOUT = 10.0  # seconds
GRACE = 1.0  # seconds

LIMITS: Any = {"contain": True, "rlimits": {"CPU": 60, "NOFILE": 256}, "grace": GRACE}

folder = Path()


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Before this ends, uvicorn has cancelled the requests that took too long."""
    yield
    await aiopidfd.shutdown(grace=GRACE)


app = FastAPI(lifespan=lifespan)


def command(steps: int) -> list[str]:
    return ["/bin/sh", "-c", CONVERTER, "converter", str(steps), "x"]


@app.post("/convert")
async def convert(steps: int = 5, timeout: float = TIMEOUT) -> dict[str, Any]:
    progress: list[bytes] = []
    with (folder / f"{uuid.uuid4()}.log").open("wb") as log:
        try:
            result = await aiopidfd.anyio.run_process(
                command(steps),
                stdout=PIPE,
                stderr=[log, progress.append],
                output_limit=KEPT,
                on_limit="tail",
                timeout=min(timeout, TIMEOUT),
                drain=0,  # not for the helper, which has the pipes
                check=False,
                **LIMITS,
            )
        except TimeoutExpired:
            raise HTTPException(504, f"after {len(progress)} steps") from None
    return {
        "returncode": result.returncode,
        "steps": len(progress),
        "kept": len(result.stdout),
        "dropped": result.stdout_dropped,
    }


class Progress(Response):
    """Sends the progress as it comes: a slow client makes the converter wait."""

    def __init__(self, steps: int) -> None:
        super().__init__(media_type="text/plain")
        self.steps = steps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [item for item in self.raw_headers if item[0] != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def show(line: bytes) -> None:
            await send({"type": "http.response.body", "body": line + b"\n", "more_body": True})

        async def end_without_client(scope: anyio.CancelScope) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(end_without_client, group.cancel_scope)
            await aiopidfd.anyio.run_process(
                command(self.steps), stdout=DEVNULL, stderr=show, timeout=TIMEOUT, drain=0, **LIMITS
            )
            group.cancel_scope.cancel()
        await send({"type": "http.response.body"})


@app.get("/watch")
async def watch(steps: int = 5) -> Response:
    return Progress(steps)


def main() -> None:
    global folder
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    with socket.create_server(("127.0.0.1", port)) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        # Requests that still run a second after SIGTERM are cancelled; at the level "error" uvicorn
        # would show a traceback of each.
        config = uvicorn.Config(
            app, loop="uvloop", timeout_graceful_shutdown=1, log_level="critical"
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
