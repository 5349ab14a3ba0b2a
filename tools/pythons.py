#!/usr/bin/env python3
"""Run the tests on other Pythons: those of Debian's next release, free-threaded ones, and on musl.

With nothing prepared: Debian's testing suite is put into a folder with debootstrap, and the Pythons
into that. A free-threaded one (3.13t) and one for musl, the C library of Alpine (3.13-musl), are no
packages there: they are built from Debian's source of 3.13, the latter with all that it needs. Then
the working tree is copied into it, the native module is compiled without a warning, and pytest
runs, with that folder as its root.

    tools/pythons.py                          # 3.14, 3.15, 3.13t and 3.13-musl
    tools/pythons.py --short                  # the newest alone
    tools/pythons.py --python 3.14 -- tests/native/test_guardian.py -k namespace
    tools/pythons.py --python 3.14t --source python3.14_3.14.4.orig.tar.xz

It runs all tests, and those of our peers (tools/peers); what follows `--` goes to pytest in their
place.

It needs root, a Debian with the packages that it names when they are missing (`--install`), and a
package index for pip; apt and pip are used as they are configured here. Everything is kept in
aiopidfd/pythons in the user's cache folder (delete it to get newer Pythons, or newer releases of
pytest): the output of each run is there too, as PYTHON.log. All mounts, and all processes, are in
namespaces that end with the command.
"""

import argparse
import ast
import fcntl
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Final

from kernels import KEYRING, ROOT, Apt, Result, ToolError, run

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
BUILD: Final = CACHE / "aiopidfd" / "pythons"
SYSTEM: Final = BUILD / "system"  # what has become the root for all that runs inside

SUITE: Final = "forky"
SCRIPT: Final = Path("/usr/share/debootstrap/scripts/sid")  # older ones do not know the suite

# A free-threaded 3.14 is asked for with `--python 3.14t`: not every mirror has that source.
PYTHONS: Final = ("3.14", "3.15", "3.13t", "3.13-musl")
NEWEST: Final = "3.15"

PROGRAMS: Final = ("procps",)  # what the tests execute
# For the native module, and for test requirements that have no wheel (uvloop has none for 3.13t).
COMPILERS: Final = ("gcc", "libc6-dev", "make", "autoconf", "automake", "libtool")
LIBRARIES: Final = ("xz-utils", "zlib1g-dev", "libssl-dev", "libffi-dev")  # to build a Python
# Of these there are no packages for musl, but sources; and how each becomes a static library.
MUSL_LIBRARIES: Final = {
    "zlib": """\
./configure --static --prefix="$PREFIX"
make -s install
""",
    "libffi": """\
autoreconf -i
./configure -q --disable-shared --disable-docs --prefix="$PREFIX"
make -s install
""",
    "openssl": """\
./Configure no-shared no-apps no-tests no-docs --prefix="$PREFIX" --libdir=lib --openssldir=/etc/ssl
make -s build_libs
make -s install_dev
""",
}
WARNINGS: Final = "-Wall -Wextra -Werror"

TOOLS: Final = {  # command: package
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
    "git": "git",
}

# Arguments: the new root, what is the same in it as here, --, a folder, and a command, which is not
# pid 1: it shall not inherit orphans. A chroot would not do: unshare(1) fails in one.
ENTER: Final = """\
set -e
cd "$1"
mount --rbind . .
cd "$1"
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mount -t tmpfs -o mode=1777 tmpfs tmp
while shift; [ "$1" != -- ]; do mount --bind -o ro "$1" ".$1"; done
pivot_root . mnt
cd "$2"
umount -l /mnt
shift 2
status=0
"$@" || status=$?
exit $status
"""

# Argument: a package. A mirror may know of a newer version than it has. Root owns the folder.
FETCH_SOURCE: Final = """\
for version in $(apt-cache showsrc --only-source "$1" | sed -n "s/^Version: //p" | sort -rV); do
    apt-get -qq -oAPT::Sandbox::User=root source --download-only --tar-only "$1=$version" && exit
done
exit 1
"""

# musl's compiler, but that it does not say that it compiles for glibc, which Python's build asks.
MUSL_GCC: Final = """\
#!/bin/sh
[ "$*" = --print-multiarch ] || exec /usr/bin/musl-gcc "$@"
"""

# Fails if an import has brought the GIL back to a free-threaded Python.
DESCRIBE: Final = """\
import platform, sys, sysconfig
from importlib.metadata import version
import aiopidfd, uvloop
free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
if free and sys._is_gil_enabled():
    sys.exit("aiopidfd or uvloop has turned the GIL on")
print(platform.python_version() + (", without GIL" if free else ""), end="")
print(", musl" if "musl" in sysconfig.get_config_var("SOABI") else "", end="")
print(", uvloop", version("uvloop"), end="")
"""


def require_tools(install: bool) -> None:
    """Raises ToolError if a tool is missing (and could not be installed), or we are not root."""
    if os.geteuid() != 0:
        raise ToolError("only root can do this")
    missing = [package for command, package in TOOLS.items() if shutil.which(command) is None]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if not install:
        raise ToolError(f"missing: try `{shlex.join(command)}`, or --install")
    run("apt-get", "update")
    run(*command)


# The system


def pip_settings() -> dict[str, str]:
    """Pip's configuration here, its files included, as environment variables."""
    settings: dict[str, str] = {}
    listed = run(sys.executable, "-m", "pip", "config", "list")
    for section in ("global", "install", ":env:"):  # the later ones prevail
        for name, value in re.findall(rf"^{section}\.(\S+?)=(.*)$", listed, re.MULTILINE):
            variable = "PIP_" + name.upper().replace("-", "_")
            settings[variable] = " ".join(ast.literal_eval(value).split())
    return settings


def environment() -> dict[str, str]:
    """What is set inside: pip's configuration, proxies and certificates are this machine's."""
    kept = re.compile(r"\w+_proxy|\w*CERT\w*|\w*_CA_\w+", re.IGNORECASE)
    return {
        **{name: value for name, value in os.environ.items() if kept.fullmatch(name)},
        **pip_settings(),
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }


def shared_paths(settings: dict[str, str]) -> Iterable[Path]:
    """The files and folders that are the same inside as here."""
    found = {Path("/etc/resolv.conf"), Path("/etc/hosts"), Path("/etc/ssl/certs")}
    for name, value in settings.items():
        if name not in {"PATH", "HOME"}:
            for url, path in re.findall(r"(?<!\S)(file://)?(/[^\s/]\S*)", value):
                # What an index links to lies beside it.
                beside = url and name.endswith("INDEX_URL")
                found.add(Path(path).parent if beside else Path(path))
    return sorted(path for path in found if path.exists() and path != Path("/"))


class System:
    """A Debian in a folder. What is built there is built from `source`, if that is given."""

    def __init__(self, source: Path | None) -> None:
        self.source = source
        if not SYSTEM.exists():
            self._make()
        self._environment = environment()
        self._shared = [*shared_paths(self._environment)]
        for path in self._shared:  # something to mount it on
            place = SYSTEM / path.relative_to("/")
            if path.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            elif not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()

    @staticmethod
    def _make() -> None:
        print(f"fetching Debian's {SUITE}", flush=True)
        mirror = Apt.mirror()
        begun = SYSTEM.with_suffix(".begun")
        shutil.rmtree(begun, ignore_errors=True)
        options = ["--variant=minbase", "--force-check-gpg", f"--keyring={KEYRING}"]
        # Some Python's packages want it, and later the certificates are this machine's.
        options.append("--include=ca-certificates")
        # It mounts things in there.
        namespace = ["unshare", "--mount", "--propagation", "private"]
        log = BUILD / "debootstrap.log"
        with log.open("wb") as file:
            done = subprocess.run(
                [*namespace, "debootstrap", *options, SUITE, begun, mirror, SCRIPT],
                check=False,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            raise ToolError(f"debootstrap failed: see {log}")
        apt = begun / "etc" / "apt"
        lines = [f"{kind} {mirror} {SUITE} main\n" for kind in ("deb", "deb-src")]
        (apt / "sources.list").write_text("".join(lines))
        (apt / "apt.conf.d" / "90machine").write_text(run("apt-config", "dump", "Acquire"))
        begun.rename(SYSTEM)

    def command(self, *command: str, folder: str = "/") -> list[str]:
        """How to run it inside. All that it leaves running ends with it."""
        namespaces = ["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
        enter = ["unshare", *namespaces, "sh", "-c", ENTER, "sh"]
        return [*enter, str(SYSTEM), *map(str, self._shared), "--", folder, *command]

    def popen(self, *command: str, folder: str) -> subprocess.Popen[bytes]:
        """Start it inside; its output is a pipe."""
        return subprocess.Popen(
            self.command(*command, folder=folder),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *command: str, folder: str = "/", **variables: str) -> str:
        """Run it inside; its output.

        Raises:
            ToolError: it failed; what it wrote has been shown.
        """
        done = subprocess.run(
            self.command(*command, folder=folder),
            check=False,
            env=self._environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            print(done.stdout, flush=True)
            raise ToolError(f"status {done.returncode} of {shlex.join(command)}")
        return done.stdout

    def install(self, *packages: str) -> None:
        """Install those that are not there yet."""
        have = self.run("dpkg-query", "--show", "--showformat=${Package}\n").split()
        missing = [package for package in packages if package not in have]
        if missing:
            print(f"installing {', '.join(missing)}", flush=True)
            self.run("apt-get", "-qq", "update")
            self.run("apt-get", "-qq", "install", "--no-install-recommends", *missing)


# The Pythons


def get_python(system: System, version: str) -> str:
    """Put the Python there if it is not; its path inside."""
    system.install(*PROGRAMS, *COMPILERS)
    if version.endswith(("t", "-musl")):
        return build_python(system, version)
    system.install(f"python{version}-venv", f"python{version}-dev", f"libpython{version}-testsuite")
    return f"/usr/bin/python{version}"


def build_python(system: System, version: str) -> str:
    """Build it from the source given, or Debian's without its patches; its path inside."""
    prefix = f"/pythons/{version}"
    finished = SYSTEM / prefix.lstrip("/") / "finished"
    if not finished.exists():
        print(f"building Python {version}", flush=True)
        options, variables = [f"--prefix={prefix}"], {}
        if version.endswith("t"):
            system.install(*LIBRARIES)
            options.append("--disable-gil")
        else:
            variables = build_for_musl(system, prefix)
            options.append(f"--with-openssl={prefix}")
        package = f"python{version.removesuffix('-musl').removesuffix('t')}"
        source = unpack_source(system, package, system.source)
        system.run("./configure", "-q", *options, folder=source, **variables)
        system.run("make", "-s", f"-j{os.cpu_count()}", folder=source)
        system.run("make", "-s", "install", folder=source)
        shutil.rmtree(SYSTEM / source.lstrip("/"))
        finished.touch()
    return f"{prefix}/bin/python3"


def build_for_musl(system: System, prefix: str) -> dict[str, str]:
    """Make ready for a Python on musl: the libraries that it needs; variables for its build."""
    system.install("musl-tools", "xz-utils", "libltdl-dev")
    compiler = SYSTEM / "usr" / "local" / "bin" / "musl-gcc"
    compiler.write_text(MUSL_GCC)
    compiler.chmod(0o755)
    # The kernel's headers belong to no C library, but musl's compiler has its own folder alone.
    machine = system.run("gcc", "-print-multiarch").strip()
    headers = SYSTEM / "usr" / "include" / f"{platform.machine()}-linux-musl"
    for name in ("linux", "asm-generic", f"{machine}/asm"):
        link = headers / Path(name).name
        if not link.is_symlink():
            link.symlink_to(f"../{name}")
    for package, commands in MUSL_LIBRARIES.items():
        source = unpack_source(system, package)
        flags = {"CFLAGS": "-O2 -fPIC", "MAKEFLAGS": f"-j{os.cpu_count()}"}
        system.run("sh", "-ec", commands, folder=source, CC="musl-gcc", PREFIX=prefix, **flags)
        shutil.rmtree(SYSTEM / source.lstrip("/"))
    # What is linked names the library as on Alpine: by that a wheel is known as one for musl.
    libraries = SYSTEM / prefix.lstrip("/") / "lib"
    name = f"libc.musl-{platform.machine()}.so.1"
    (libraries / name).unlink(missing_ok=True)
    (libraries / name).symlink_to(f"/lib/ld-musl-{platform.machine()}.so.1")
    (libraries / "libc.so").write_text(f"INPUT(-l:{name})\n")
    return {"CC": "musl-gcc", "CPPFLAGS": f"-I{prefix}/include", "LDFLAGS": f"-L{prefix}/lib"}


def unpack_source(system: System, package: str, archive: Path | None = None) -> str:
    """Unpack the archive, by default what Debian's package is made from; its folder inside."""
    source = f"/source/{package}"
    place = SYSTEM / source.lstrip("/")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if archive is None:
        system.run("apt-get", "-qq", "update")
        system.run("sh", "-c", FETCH_SOURCE, "sh", package, folder=source)
        archive = next(place.glob("*.orig.tar.*[!c]"))  # beside it may lie its signature, .asc
    else:
        shutil.copy(archive, place)
    system.run("tar", "-xf", archive.name, "--strip-components=1", folder=source)
    return source


def copy_project(version: str) -> str:
    """Copy the working tree, but for what git ignores; its folder inside."""
    folder = f"/project/{version}"
    place = SYSTEM / folder.lstrip("/")
    shutil.rmtree(place, ignore_errors=True)
    # A repository that knows no file: the tree may be a copy without one.
    empty = BUILD / "empty"
    run("git", "init", "--quiet", empty)
    git = ["git", "-C", str(ROOT), f"--git-dir={empty}/.git", f"--work-tree={ROOT}"]
    listed = run(*git, "ls-files", "-z", "--others", "--exclude-standard").split("\0")[:-1]
    for name in listed:
        copy = place / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy, follow_symlinks=False)
    place.with_name(f"{version}.files").write_text("".join(f"{name}\n" for name in listed))
    return folder


def install_package(system: System, version: str, folder: str) -> tuple[str, str]:
    """Install the package as it lies in the folder, and what its tests need.

    Returns:
        The path inside of an interpreter that has it all, and what that is.
    """
    python = get_python(system, version)
    prefix = f"/venv/{version}"
    if not (SYSTEM / prefix.lstrip("/") / "bin" / "pip").exists():
        system.run(python, "-m", "venv", "--clear", prefix)
    python = f"{prefix}/bin/python"
    print("installing the package", flush=True)
    pip = [python, "-m", "pip", "install", "-qq"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    system.run(*pip, "--editable", ".", folder=folder, CFLAGS=WARNINGS)
    wanted = [name for name in extras["peers"] if not (peers(version) and "trustme" in name)]
    if version.endswith("-musl"):
        wanted += extras["package"]  # for .ci/wheel
    # Rather the last release that has a wheel than one that needs, say, a compiler of Rust.
    system.run(*pip, "--prefer-binary", *extras["test"], *wanted)
    return python, system.run(python, "-W", "error", "-c", DESCRIBE, folder=folder)


# The tests


def run_tests(system: System, version: str, arguments: list[str], timeout: float) -> Result:
    """Run them, show and keep what they print."""
    print(f"\n=== {version} ===", flush=True)
    folder = copy_project(version)
    python, description = install_package(system, version, folder)
    print(description, flush=True)
    pytest = [python, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider"]
    pytest += ["-o", "faulthandler_timeout=300"]
    commands = [[*pytest, *(arguments or ["tests"])]]
    if not arguments:
        commands.append([python, "-m", "tools.peers", *peers(version)])
        if version.endswith("-musl"):
            commands.append([".ci/wheel", python, "dist", f"{folder}.files"])
    start = time.monotonic()
    summaries = []
    good = True
    with (BUILD / f"{version}.log").open("w+b") as log:
        for command in commands:
            status = show(system.popen(*command, folder=folder), log, timeout)
            log.seek(0)
            lines = log.read().decode(errors="replace").splitlines()
            summaries.append(lines[-1].strip("= ") if lines else "no output")
            if status < 0:
                summaries[-1] = f"was killed, after {timeout:.0f} s at the latest"
            good = good and status == 0
    seconds = time.monotonic() - start
    return Result(good, f"{', '.join(summaries)} ({description})", seconds)


def peers(version: str) -> tuple[str, ...]:
    """Whose tests can be run there; none means all."""
    if version.endswith("t"):
        print("without anyio's tests: cryptography, which they need, has no wheel for this Python")
        return ("cpython", "subprocess", "uvloop")
    return ()


def show(process: subprocess.Popen[bytes], log: IO[bytes], timeout: float) -> int:
    """Pass on what it prints, to the log too; its status."""
    with process:
        assert process.stdout is not None
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            while output := os.read(process.stdout.fileno(), 1 << 16):
                for to in (log, sys.stdout.buffer):
                    to.write(output)
                    to.flush()
        finally:
            timer.cancel()
            if sys.exception():
                process.kill()
    return process.returncode


def main() -> int:
    """The command; 0 if everything passed on every Python."""
    before, _, after = __doc__.partition("\n\n")
    own, given = sys.argv[1:], []
    if "--" in own:
        cut = own.index("--")
        own, given = own[:cut], own[cut + 1 :]
    parser = argparse.ArgumentParser(
        description=before, epilog=after, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--python",
        action="append",
        metavar="VERSION",
        help="3.14, say, 3.13t or 3.13-musl; may be repeated",
    )
    parser.add_argument(
        "--source", type=Path, metavar="ARCHIVE", help="what to build the one --python from"
    )
    parser.add_argument("--short", action="store_true", help=f"{NEWEST} alone")
    parser.add_argument("--install", action="store_true", help="missing packages")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one Python")
    options = parser.parse_args(own)
    versions = options.python or ([NEWEST] if options.short else PYTHONS)
    for version in versions:
        if not re.fullmatch(r"3\.\d+(t|-musl)?", version):
            parser.error(f"not like 3.14, 3.13t or 3.13-musl: {version}")
    if options.source and (len(versions) != 1 or not versions[0].endswith(("t", "-musl"))):
        parser.error("--source is for one --python that is built, as 3.14t")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends what we started
    results: dict[str, Result] = {}
    try:
        require_tools(options.install)
        BUILD.mkdir(parents=True, exist_ok=True)
        with (BUILD / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ToolError(f"another one is at work in {BUILD}") from None
            system = System(options.source)
            for version in dict.fromkeys(versions):
                try:
                    results[version] = run_tests(system, version, given, options.timeout)
                except ToolError as error:
                    results[version] = Result(False, f"no test was run: {error}", 0)
    except ToolError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2

    print()
    for version, result in results.items():
        verdict = "ok" if result.ok else "FAILED"
        print(f"{version:5}  {verdict:6}  {result.seconds:6.0f} s  {result.summary}")
    return 0 if all(result.ok for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
