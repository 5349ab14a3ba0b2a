"""Recipes of the manual as their reader uses them: with the real packages and real commands.

test_docs.py runs each block by itself; these bring the blocks of a recipe together.
"""

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..spawn.test_trees import Marked
from ..spawn.test_trees import marked as marked
from ..support import SOURCES
from .test_docs import BLOCKS, GIVEN, Block

PYTHON = [sys.executable, "-X", "dev"]


def blocks_of(heading: str) -> list[Block]:
    """The Python blocks below a heading of docs/recipes.md."""
    page = next(block.page for block in BLOCKS if block.page.name == "recipes.md")
    lines = page.read_text().split("\n")
    first = lines.index(f"## {heading}") + 1
    after = [number for number, line in enumerate(lines) if number >= first and line[:3] == "## "]
    last = after[0] if after else len(lines)
    found = [block for block in BLOCKS if block.page == page and first < block.line <= last]
    assert found
    return found


def need(*names: str) -> None:
    for name in names:
        if not importlib.util.find_spec(name):
            pytest.skip(f"{name} is not installed")


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@contextlib.contextmanager
def served(
    command: list[str], folder: Path, marked: Marked
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A server of the reader's, and what it has said so far. It is killed if it still runs."""
    said = folder / "said"
    with said.open("wb") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=marked.env | {"PYTHONPATH": SOURCES}, stdout=log, stderr=log
        )
    with server:
        try:
            yield server, said
        finally:
            server.kill()


def address(said: Path) -> str:
    """Where the server says that it is."""
    pattern = re.compile(r"[Rr]unning on (http://[\d.]+:\d+)")
    until(lambda: pattern.search(said.read_text()), "it does not serve")
    found = pattern.search(said.read_text())
    assert found
    return found[1]


def fetch(url: str) -> object:
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


@pytest.mark.heavy
def test_ffmpeg(tmp_path: Path) -> None:
    need("imageio_ffmpeg")
    import imageio_ffmpeg  # the program itself, in a package

    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    (block,) = blocks_of("ffmpeg, with progress")
    make = re.search(r"`(ffmpeg -f lavfi .*?)`", block.page.read_text())
    assert make
    quiet = f"{make[1]} -nostdin -v error"
    subprocess.run(quiet, shell=True, cwd=tmp_path, env=env, check=True, timeout=60)
    program = (
        f"{GIVEN}import ast, types\n"
        f"code = compile({block.code!r}, 'block', 'exec', ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)\n"
        "asyncio.run(types.FunctionType(code, globals())())\n"
    )

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PYTHON, "-c", program],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    result = run()
    assert (result.returncode, result.stderr) == (0, "")
    assert float(result.stdout.split()[-1]) == pytest.approx(3, abs=0.2)
    assert (tmp_path / "out.mp4").stat().st_size > 1000

    (tmp_path / "in.mkv").write_bytes(b"no film")
    result = run()
    assert result.returncode == 1
    assert "CalledProcessError: Command '['ffmpeg', '-nostdin'" in result.stderr


@pytest.mark.heavy
@pytest.mark.parametrize("loop", [[], ["--loop", "aiopidfd:EventLoop"]], ids=["install", "--loop"])
def test_uvicorn(tmp_path: Path, marked: Marked, loop: list[str]) -> None:
    need("fastapi", "uvicorn")
    (block,) = blocks_of("FastAPI and Starlette under uvicorn")
    code = block.code
    if loop:
        code = code.replace("    aiopidfd.install()  # the loop that runs\n", "")
        assert code != block.code
    # A handler that says which loop it is on.
    code += """
import asyncio

@app.get("/loop")
async def loop():
    return isinstance(asyncio.get_running_loop(), aiopidfd.EventLoop)

@app.get("/by-asyncio")
async def by_asyncio():
    process = await asyncio.create_subprocess_exec("true")
    return [await process.wait(), type(process._transport).__module__.split(".")[0]]
"""
    (tmp_path / "app.py").write_text(code)
    command = [*PYTHON, "-m", "uvicorn", "app:app", "--port", "0", *loop]
    with served(command, tmp_path, marked) as (server, said):
        url = address(said)
        assert fetch(f"{url}/thumbnail?name=a.png") == {"done": "of a.png"}
        assert fetch(f"{url}/by-asyncio") == [0, "aiopidfd"]
        assert fetch(f"{url}/loop") is bool(loop)
        server.terminate()
        server.wait(60)
    assert "Traceback" not in said.read_text()


@pytest.mark.heavy
def test_aiohttp(tmp_path: Path, marked: Marked) -> None:
    need("aiohttp")
    code, run = (block.code.strip("\n") for block in blocks_of("aiohttp"))
    assert "web.run_app(app, " in run
    run = run.replace("web.run_app(app, ", "web.run_app(app, port=0, host='127.0.0.1', ")
    (tmp_path / "app.py").write_text(f"{code}\n\n{run}\n")
    with served([*PYTHON, "-u", "app.py"], tmp_path, marked) as (server, said):
        helper = fetch(address(said))
        assert isinstance(helper, dict)
        assert Path(f"/proc/{helper['helper']}/comm").read_text() == "sleep\n"
        server.send_signal(signal.SIGINT)
        server.wait(60)
        assert not Path(f"/proc/{helper['helper']}").exists()
    assert "Traceback" not in said.read_text()


@pytest.mark.heavy
def test_pytest_asyncio(tmp_path: Path) -> None:
    conftest, test = blocks_of("pytest-asyncio")
    (tmp_path / "conftest.py").write_text(conftest.code)
    (tmp_path / "test_it.py").write_text(test.code)
    result = subprocess.run(
        [*PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, "test_it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 passed" in result.stdout


@pytest.mark.heavy
def test_jupyter(tmp_path: Path) -> None:
    """In a kernel, as a front end runs it."""
    need("ipykernel", "nbclient")
    (block,) = blocks_of("Jupyter")
    cells = [
        block.code,
        "aiopidfd.install()",
        """import asyncio
process = await asyncio.create_subprocess_exec("true")
print(await process.wait(), type(process._transport).__module__)""",
    ]
    run = f"""
import nbformat, nbclient
cells = [nbformat.v4.new_code_cell(cell) for cell in {cells!r}]
notebook = nbformat.v4.new_notebook(cells=cells)
nbclient.NotebookClient(notebook, timeout=100).execute()
for cell in notebook.cells:
    for output in cell.outputs:
        print(output.get("text", output), end="")
"""
    result = subprocess.run(
        [sys.executable, "-c", run],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": SOURCES, "IPYTHONDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "from a cell\n\n0 aiopidfd._asyncio.transport\n"


@pytest.fixture
def celery_worker(tmp_path: Path, marked: Marked) -> Iterator[Path]:
    """The recipe's `celery -A jobs worker`, with tasks that hang, and files for a broker."""
    need("celery")
    (block,) = blocks_of("Celery")
    made = 'broker="memory://", backend="cache+memory://"'
    assert made in block.code
    code = block.code.replace(made, 'broker="filesystem://", backend="file://results"')
    head, end = code.split('if __name__ == "__main__":')
    assert "checksum.delay" in end
    for folder in ("queue", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "jobs.py").write_text(f"""{head}
app.conf.broker_transport_options = dict.fromkeys(
    ("data_folder_in", "data_folder_out"), "queue"
) | {{"control_folder": "control", "store_processed": False}}


@app.task
def hang(**options):
    subprocess.run("echo started >>told; sleep 600 & wait", shell=True, **options)
""")
    command = [*PYTHON, "-m", "celery", "-A", "jobs", "worker", "-c", "2", "-l", "info"]
    with served(command, tmp_path, marked) as (worker, said):
        until(lambda: "ready." in said.read_text(), "no worker")
        yield tmp_path
        worker.terminate()
        worker.wait(100)


def celery(folder: Path, code: str) -> str:
    """What a client of that worker prints."""
    result = subprocess.run(
        [*PYTHON, "-c", f"import jobs; {code}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": SOURCES},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def sleepers(marked: Marked) -> list[int]:
    return [
        pid for pid in marked.alive() if b"sleep\0" in Path(f"/proc/{pid}/cmdline").read_bytes()[:6]
    ]


@pytest.mark.heavy
def test_celery(celery_worker: Path, marked: Marked) -> None:
    assert celery(celery_worker, "print(jobs.checksum.delay('hello').get(timeout=60))") == (
        "3287646509"
    )
    task = celery(celery_worker, "print(jobs.hang.delay())")
    until(lambda: sleepers(marked), "it was not started")
    celery(celery_worker, f"jobs.app.control.revoke('{task}', terminate=True)")
    until(lambda: not sleepers(marked), "what was revoked runs on")


@pytest.mark.heavy
def test_a_killed_worker_of_celery(celery_worker: Path, marked: Marked) -> None:
    celery(celery_worker, "jobs.hang.delay(contain=True)")
    until(lambda: sleepers(marked), "it was not started")
    (sleeper,) = sleepers(marked)
    status = Path(f"/proc/{sleeper}/status").read_text()
    shell = int(re.search(r"PPid:\t(\d+)", status)[1])  # type: ignore[index]
    status = Path(f"/proc/{shell}/status").read_text()
    guardian = int(re.search(r"PPid:\t(\d+)", status)[1])  # type: ignore[index]
    status = Path(f"/proc/{guardian}/status").read_text()
    os.kill(int(re.search(r"PPid:\t(\d+)", status)[1]), signal.SIGKILL)  # type: ignore[index]
    until(lambda: not sleepers(marked), "it has outlived its worker")


def test_no_recipe_is_forgotten() -> None:
    """What is said of other programs is tried here, or in the file that is named."""
    page = next(block.page for block in BLOCKS if block.page.name == "recipes.md")
    headings = re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
    here = {"ffmpeg, with progress", "FastAPI and Starlette under uvicorn", "aiohttp"}
    here |= {"pytest-asyncio", "Jupyter", "Celery"}
    elsewhere = {
        "gunicorn, supervisord, PID 1": "test_real_hosts",
        "A service of systemd": "test_confinement",
    }
    blocks_alone = {
        "Thousands of jobs, some at a time",
        "A server that speaks over stdio",
        "What you do not trust",
        "Code without a loop",
        "uvloop",
        "anyio and trio",
        "Worker processes",
        "Dask: over several machines",
        "A Python function in a process of its own",
    }
    assert {*headings} == here | {*elsewhere} | blocks_alone
