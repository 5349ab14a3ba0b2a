"""Checksum every file of a directory, or compress it, with a bounded number of programs at once.

    python checksum.py                          # the standard library
    python checksum.py /usr/bin --list bin.sha256
    python checksum.py ~/photos --gzip /tmp/photos --jobs 4

Each file is fed to a `sha256sum`, or a `gzip`, on its stdin: so its name never gets into a command
line or into a parser, whatever it consists of. A file that cannot be read is reported and the rest
goes on. `--list` writes what `sha256sum --check` reads. Ctrl-C ends the programs that run.
"""

import argparse
import asyncio
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import aiopidfd

STANDARD_LIBRARY = Path(os.__file__).resolve().parent

Job = Callable[[Path, int], Awaitable[None]]  # takes a file's path and its open descriptor


@dataclass
class Progress:
    """What has been done so far; a bar on stderr if that is a terminal."""

    total: int
    files: int = 0
    size: int = 0
    failed: int = 0
    started: float = field(default_factory=time.monotonic)
    _drawn: float = 0

    def done(self, size: int) -> None:
        self.files += 1
        self.size += size
        self._draw()

    def error(self, path: Path, reason: str) -> None:
        self.failed += 1
        self._clear()
        print(f"{shown(path)}: {reason}", file=sys.stderr)
        self._draw()

    def summary(self) -> str:
        self._clear()
        seconds = time.monotonic() - self.started
        mib = self.size / 2**20
        return (
            f"{self.files} files, {mib:,.1f} MiB in {seconds:.2f} s "
            f"({mib / seconds:,.1f} MiB/s), {self.failed} failed"
        )

    def _draw(self) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._drawn < 0.05:
            return
        self._drawn = now
        finished = self.files + self.failed
        bar = ("#" * (finished * 40 // self.total)).ljust(40, "-")
        print(f"\r[{bar}] {finished}/{self.total}", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def shown(path: Path) -> str:
    """A name for the terminal: no line ends, no escape sequences, no bytes that are not text."""
    name = os.fsdecode(path)
    return name if name.isprintable() else ascii(name)


def regular_files(directory: Path, left_out: Path) -> Iterator[Path]:
    """All regular files but those below `left_out`; symbolic links are not followed."""
    for folder, subfolders, names in os.walk(directory):
        subfolders[:] = sorted(name for name in subfolders if Path(folder, name) != left_out)
        for name in sorted(names):
            path = Path(folder, name)
            try:
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path
            except FileNotFoundError:  # removed meanwhile
                continue


async def for_each(files: Iterable[Path], jobs: int, job: Job, progress: Progress) -> None:
    """Do a job for each file, at most `jobs` of them at a time."""
    remaining = iter(files)  # shared by the workers: each takes the next file when it is free

    async def worker() -> None:
        for path in remaining:
            try:
                with open(path, "rb") as file:
                    await job(path, file.fileno())
                    progress.done(os.fstat(file.fileno()).st_size)
            except subprocess.CalledProcessError as exc:
                progress.error(path, exc.stderr.decode(errors="replace").strip() or str(exc))
            except OSError as exc:
                progress.error(path, exc.strerror or str(exc))

    async with asyncio.TaskGroup() as group:
        for _ in range(jobs):
            group.create_task(worker())


async def checksum_all(directory: Path, jobs: int, list_file: Path | None) -> int:
    """Returns how many files failed."""
    files = list(regular_files(directory, STANDARD_LIBRARY / "site-packages"))
    progress = Progress(len(files))
    digests: dict[Path, str] = {}

    async def checksum(path: Path, fd: int) -> None:
        result = await aiopidfd.run_process(["sha256sum"], stdin=fd)
        digests[path] = result.stdout.split()[0].decode()

    await for_each(files, jobs, checksum, progress)
    lines = b"".join(check_line(digests[path], path) for path in files if path in digests)
    if list_file is not None:
        list_file.write_bytes(lines)
    print(progress.summary())
    print(f"sha256 of the list of all sums: {sha256(lines).hexdigest()}")
    return progress.failed


def check_line(digest: str, path: Path) -> bytes:
    r"""As `sha256sum` prints it: a name with a backslash or a line end in it is escaped."""
    name = os.fsencode(path)
    escaped = name.replace(b"\\", rb"\\").replace(b"\n", rb"\n").replace(b"\r", rb"\r")
    mark = b"" if escaped == name else b"\\"
    return mark + digest.encode() + b"  " + escaped + b"\n"


async def compress_all(directory: Path, jobs: int, target: Path) -> int:
    """Returns how many files failed."""
    files = list(regular_files(directory, target))
    progress = Progress(len(files))

    async def compress(path: Path, fd: int) -> None:
        relative = path.relative_to(directory)
        packed = target / relative.parent / f"{relative.name}.gz"
        packed.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(packed, "wb") as output:
                await aiopidfd.run_process(["gzip", "-c"], stdin=fd, stdout=output)
        except BaseException:  # cancelled, too: half a file is none
            packed.unlink(missing_ok=True)
            raise

    await for_each(files, jobs, compress, progress)
    print(progress.summary())
    return progress.failed


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "directory", nargs="?", type=Path, default=STANDARD_LIBRARY, metavar="DIRECTORY"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="programs at once")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", type=Path, metavar="FILE", help="write the checksums to it")
    what.add_argument("--gzip", type=Path, metavar="OUTDIR", help="compress the files into it")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    directory: Path = arguments.directory.resolve()
    if not directory.is_dir():
        parser.error(f"not a directory: {shown(directory)}")
    program = "sha256sum" if arguments.gzip is None else "gzip"
    if shutil.which(program) is None:
        parser.error(f"{program} is not installed")
    try:
        if arguments.gzip is not None:
            work = compress_all(directory, arguments.jobs, arguments.gzip.resolve())
        else:
            work = checksum_all(directory, arguments.jobs, arguments.list)
        return 1 if asyncio.run(work) else 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
