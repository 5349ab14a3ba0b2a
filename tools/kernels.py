#!/usr/bin/env python3
"""Run the tests on other kernels, and on aarch64: Debian's own, booted in an emulator, without KVM.

For each kernel, with nothing prepared: the kernel is fetched with apt (a state directory of its
own; the machine's lists are not touched), an initramfs is packed that holds this interpreter, the
package as it is in the working tree, the tests and what they need, and the two are booted by
qemu. In there `python -m aiopidfd` runs, then pytest.

    tools/kernels.py                          # all tests on all kernels: long, see below
    tools/kernels.py --short                  # the oldest kernel alone
    tools/kernels.py 5.10 6.1 -- tests/native/test_guardian.py -k namespace
    tools/kernels.py --machine aarch64 6.12 -- tests/native tests/pidfd -m 'not heavy'

On another machine than x86-64 nothing of this one can run. Python, the C library, a compiler and
the programs that the tests execute are Debian's packages for it, the test requirements are wheels,
and the native module is compiled in there, where a warning is an error.

What follows `--` goes to pytest, in place of `tests`. Emulated processors are some ten times
slower than real ones: allow an hour or more for all the tests on one kernel.

Memory is another thing that is emulated: an emulated aarch64 orders what it reads and writes as
this machine does, which is more strictly than a real one.

It needs an x86-64 Debian with the packages that it names when they are missing, a C compiler, and
a package index for pip; root only to install the former (`--install`). Everything is kept in
build/kernels (delete it to get newer kernels, or newer releases of pytest): the output of each
boot is there too, as KERNEL-MACHINE.log.
"""

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build" / "kernels"
IMAGE: Final = BUILD / "image"  # what the initramfs holds
SOURCE: Final = BUILD / "source"  # a copy of the working tree: pip builds in place

# The kernel, the Debian suite that has it, and the package that holds its vmlinuz; what follows
# in its name is the machine.
KERNELS: Final = {
    "5.10": ("bullseye", r"linux-image-5\.10\.0-\d+-cloud"),
    "6.1": ("bookworm", r"linux-image-6\.1\.0-\d+-cloud"),
    "6.12": ("trixie", r"linux-image-6\.12\.\d+\+deb13-cloud"),
    "6.18": ("trixie-backports", r"linux-image-6\.18\.\d+\+deb13-cloud"),
    "7.x": ("trixie-backports", r"linux-binary-7\.[\d.]+\+deb13-cloud"),
}
OLDEST: Final = "5.10"

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# What the tests execute, from the machine itself; busybox boots, and is there for the rest.
PROGRAMS: Final = ("bash", "coreutils", "dash", "procps", "util-linux")
LOCALE: Final = Path("/usr/lib/locale/C.utf8")


class Machine(NamedTuple):
    """What is emulated."""

    name: str  # the kernel's name for it
    debian: str  # Debian's
    qemu: str  # the command
    package: str  # what has that command
    console: str


HERE: Final = Machine(
    "x86_64",
    "amd64",
    # Time in there is counted in instructions, two nanoseconds each: however slow this machine is,
    # and however busy, no timeout of a test comes too soon; and nothing has to be waited for while
    # all sleep. Two processors did not get through the boot so. With -cpu max, qemu 7.2
    # double-faulted in 6.12.
    "qemu-system-x86_64 -accel tcg -icount shift=1,sleep=off -smp 1 -cpu Nehalem,+rdrand",
    "qemu-system-x86",
    "ttyS0",
)
AARCH64: Final = Machine(
    "aarch64",
    "arm64",
    # Pointers are signed and checked by qemu's own algorithm: emulating Arm's is very slow.
    "qemu-system-aarch64 -accel tcg,thread=multi -smp 2 -machine virt -cpu max,pauth-impdef=on",
    "qemu-system-arm",
    "ttyAMA0",
)
MACHINES: Final = {machine.name: machine for machine in (HERE, AARCH64)}

# What is not this machine's.
SUITE: Final = "trixie"
PACKAGES: Final = ("python3-dev", "gcc", "libc6-dev", "busybox-static", *PROGRAMS)
PACKAGES_OF_TESTS: Final = ("less", "strace", "systemd", "golang-github-containers-common")
UNREAD: Final = ("./usr/share/doc", "./usr/share/man", "./usr/share/locale", "*python*.a", "*san.a")

TOOLS: Final = {  # command: package
    "busybox": "busybox-static",
    "ldd": "libc-bin",
    "cc": "gcc",
}

STDLIB_WITHOUT: Final = (
    "test",
    "idlelib",
    "tkinter",
    "_tkinter*",
    "turtledemo",
    "lib2to3",
    "ensurepip",
    "site-packages",
    "dist-packages",
    "config-*",
    "*.opt-?.pyc",
)
SITE_WITHOUT: Final = ("pip", "pip-*", "setuptools", "setuptools-*", "pkg_resources")

INIT: Final = """\
#!/bin/busybox sh
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LC_ALL=C.UTF-8
/bin/busybox --install -s /busybox
PATH=$PATH:/busybox
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
ln -sf /proc/self/fd /dev/fd
ln -sf /proc/self/fd/0 /dev/stdin
ln -sf /proc/self/fd/1 /dev/stdout
ln -sf /proc/self/fd/2 /dev/stderr
ulimit -Hn 524288  # as systemd has it; the other stays 1024
ip link set lo up
cd /project
{prepare}{python} -m aiopidfd </dev/null && echo &&
    {python} -m pytest -q --color=no -p no:cacheprovider \
        -o faulthandler_timeout=900 {arguments} </dev/null
echo "{mark} $?"
poweroff -f
"""
COMPILE: Final = """\
CFLAGS="-Wall -Wextra -Werror" {python} setup.py -q build_clib build_ext --inplace &&
    """
MARK: Final = "=== aiopidfd on this kernel: exit status"


class ToolError(Exception):
    """What is told in one line."""


class Result(NamedTuple):
    """How a boot went."""

    ok: bool
    summary: str  # pytest's last line, or what went wrong
    seconds: float


def run(*command: str | Path) -> str:
    """Run a command; its output.

    Raises:
        ToolError: it failed; its error output has been shown.
    """
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise ToolError(f"status {done.returncode} of {shlex.join(map(str, command))}")
    return done.stdout


def require_tools(machine: Machine, install: bool) -> None:
    """Raises ToolError if a tool is missing (and could not be installed)."""
    if (sys.platform, platform.machine()) != ("linux", HERE.name):
        raise ToolError("only x86-64 Linux can do this")
    tools = {**TOOLS, machine.qemu.split()[0]: machine.package}
    missing = [package for command, package in tools.items() if shutil.which(command) is None]
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if not install:
        raise ToolError(f"missing: try `{shlex.join(command)}` as root, or --install")
    run("apt-get", "update")
    run(*command)


# Debian's packages


class Apt:
    """apt-get and apt-cache on chosen suites of the machine's own mirror, apart from its state."""

    def __init__(self, suites: Iterable[str], architecture: str) -> None:
        home = BUILD / f"apt-{architecture}"
        self._archives = home / "cache" / "archives"
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        (home / "status").touch()  # nothing is installed
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        mirror = self.mirror()
        lines = [f"deb {signed}{mirror} {suite} main\n" for suite in sorted(set(suites))]
        (home / "sources.list").write_text("".join(lines))
        options = {
            "Dir::State": home / "state",
            "Dir::State::status": home / "status",
            "Dir::Cache": home / "cache",
            "Dir::Etc::sourcelist": home / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Acquire::Languages": "none",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "root",  # whose directory this is; the others cannot enter it
        }
        self._options = [f"-o{name}={value}" for name, value in options.items()]
        self._get("update")

    @staticmethod
    def mirror() -> str:
        """The address of Debian's archive, as the machine's own sources have it."""
        targets = run(
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(COMPONENT)",
            "Created-By: Packages",
        )
        for line in targets.splitlines():
            address, component = line.rsplit(" ", 1)
            if component == "main" and address.rstrip("/").endswith("/debian"):
                return address
        raise ToolError(
            "apt's sources have no address that ends in /debian with a component `main`"
        )

    def _get(self, *arguments: str) -> None:
        run("apt-get", "-qq", *self._options, *arguments)

    def newest(self, pattern: str) -> str:
        """The package with the highest number in its name."""
        names = run("apt-cache", *self._options, "pkgnames", "linux-").split()
        found = [name for name in names if re.fullmatch(pattern, name)]
        if not found:
            raise ToolError(f"the mirror has no package like {pattern}")
        return max(found, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])

    def download(self, package: str, folder: Path) -> Path:
        """The package's file."""
        here = Path.cwd()
        folder.mkdir(parents=True, exist_ok=True)
        os.chdir(folder)  # where apt-get puts it
        try:
            self._get("download", package)
        finally:
            os.chdir(here)
        return next(folder.glob("*.deb"))

    def download_all(self, *packages: str) -> list[Path]:
        """The files of these packages and of all that they depend on."""
        self._get("autoclean")
        self._get("install", "--yes", "--download-only", "--no-install-recommends", *packages)
        return sorted(self._archives.glob("*.deb"))


def vmlinuz(kernel: str, machine: Machine) -> Path:
    """Where the kernel lies once it has been fetched."""
    return BUILD / f"vmlinuz-{kernel}-{machine.debian}"


def fetch(kernels: Iterable[str], machine: Machine) -> None:
    """Put the kernels that are not there yet in their places."""
    wanted = [kernel for kernel in kernels if not vmlinuz(kernel, machine).exists()]
    if not wanted:
        return
    apt = Apt((KERNELS[kernel][0] for kernel in wanted), machine.debian)
    for kernel in wanted:
        package = apt.newest(f"{KERNELS[kernel][1]}-{machine.debian}")
        print(f"fetching {package}", flush=True)
        folder = BUILD / f"package-{kernel}"
        shutil.rmtree(folder, ignore_errors=True)
        run("dpkg", "-x", apt.download(package, folder), folder)
        found = [path for path in folder.rglob("vmlinuz*") if path.is_file()]
        if len(found) != 1:
            raise ToolError(f"{package} should hold one vmlinuz, not {len(found)}")
        found[0].rename(vmlinuz(kernel, machine))
        shutil.rmtree(folder)


# The initramfs


def into(image: Path, original: Path) -> Path:
    """The place in the image of what stands at this absolute path here."""
    return image / original.relative_to("/")


def copy_file(original: Path) -> None:
    """Copy a program or library, what a link leads to in place of the link."""
    place = into(IMAGE, original)
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        shutil.copy2(original, place)


def copy_tree(original: Path, place: Path, without: Callable[[str, list[str]], set[str]]) -> None:
    """Copy a folder into the image."""
    shutil.copytree(original, place, symlinks=True, ignore=without, dirs_exist_ok=True)


def copy_source() -> None:
    """Copy the working tree."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    unwanted = shutil.ignore_patterns("build", "dist", ".*", "__pycache__", "*.so", "*.egg-info")
    copy_tree(ROOT, SOURCE, unwanted)


def make_environment() -> Path:
    """An interpreter with the package and its test requirements; its prefix is kept."""
    prefix = BUILD / f"venv-{platform.python_version()}"
    python = prefix / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", prefix)
    print("installing the package", flush=True)
    run(python, "-m", "pip", "install", "--quiet", f"{SOURCE}[test]")
    return python


def copy_python(environment: Path) -> Path:
    """Copy the interpreter behind the environment, and what that has installed; its path."""
    python = environment.resolve()
    asked = "import json, site, sysconfig as s; print(json.dumps([{}, {}, {}]))".format(
        "s.get_path('stdlib')", "s.get_path('platstdlib')", "site.getsitepackages()[0]"
    )
    stdlib, platstdlib, site = map(Path, json.loads(run(python, "-c", asked)))
    installed = json.loads(run(environment, "-c", asked))[2]
    copy_file(python)
    for folder in {stdlib, platstdlib}:
        copy_tree(folder, into(IMAGE, folder), shutil.ignore_patterns(*STDLIB_WITHOUT))
    copy_tree(Path(installed), into(IMAGE, site), shutil.ignore_patterns(*SITE_WITHOUT))
    return python


def copy_libraries() -> None:
    """Copy the shared libraries of all that is in the image."""
    files = [path for path in IMAGE.rglob("*") if path.is_file() and not path.is_symlink()]
    binaries = [str(path) for path in files if path.open("rb").read(4) == b"\x7fELF"]
    # Some are no dynamic executables: ldd says so, fails, and tells of the others nevertheless.
    told = subprocess.run(["ldd", *binaries], check=False, capture_output=True, text=True).stdout
    for library in sorted(set(re.findall(r"(?:=> |^\t)(/\S+) \(", told, re.MULTILINE))):
        if not Path(library).is_relative_to(IMAGE):
            copy_file(Path(library))


def fill_from_here() -> Path:
    """Put this machine's Python, with the package installed, and its programs into the image.

    Returns:
        The interpreter's path.
    """
    copy_file(Path(shutil.which("busybox") or ""))
    for package in PROGRAMS:
        for path in map(Path, run("dpkg", "-L", package).split()):
            if path.parent.name in {"bin", "sbin"} and path.is_file():
                copy_file(path)
    for path in LOCALE.rglob("*"):
        if path.is_file():
            copy_file(path)
    python = copy_python(make_environment())
    copy_libraries()
    return python


def fill_from_debian(machine: Machine) -> Path:
    """Put Debian's Python for a machine, a compiler and its programs into the image.

    The packages are unpacked and not configured: what that would do is not needed.

    Returns:
        The interpreter's path.
    """
    print(f"unpacking Debian's {SUITE} for {machine.debian}", flush=True)
    without = [f"--exclude={name}" for name in UNREAD]
    unpack = ["tar", "-x", "--keep-directory-symlink", "-C", str(IMAGE), *without]
    for package in Apt([SUITE], machine.debian).download_all(*PACKAGES, *PACKAGES_OF_TESTS):
        read = ["dpkg-deb", "--fsys-tarfile", str(package)]
        with subprocess.Popen(read, stdout=subprocess.PIPE) as deb:
            subprocess.run(unpack, check=True, stdin=deb.stdout)
    (IMAGE / "usr/bin/cc").symlink_to("gcc")
    python = (IMAGE / "usr/bin/python3").readlink().name  # python3.13
    site = IMAGE / "usr/local/lib" / python / "dist-packages"
    version = python.removeprefix("python")
    print("fetching the test requirements", flush=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [name for extra in ("anyio", "trio", "uvloop", "test") for name in extras[extra]]
    # pip would decide by this interpreter's version which of those with a condition are wanted.
    wanted = [name for name in wanted if not (name.startswith("aiopidfd") or ";" in name)]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", f"--target={site}"]
    pip += ["--only-binary=:all:", f"--python-version={version}"]
    pip += [f"--platform=manylinux_2_{minor}_{machine.name}" for minor in range(17, 42)]
    run(*pip, *wanted)
    (site / "project.pth").write_text("/project\n")
    return Path("/usr/bin", python)


def pack(machine: Machine, arguments: list[str]) -> Path:
    """Make the initramfs, a cpio archive."""
    here = machine is HERE
    copy_source()
    shutil.rmtree(IMAGE, ignore_errors=True)
    for folder in ("bin", "sbin", "lib", "lib64"):  # as in Debian
        (IMAGE / "usr" / folder).mkdir(parents=True)
        (IMAGE / folder).symlink_to(f"usr/{folder}")
    for folder in ("proc", "sys", "dev", "tmp", "root", "etc", "busybox"):
        (IMAGE / folder).mkdir()
    (IMAGE / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    (IMAGE / "etc/group").write_text("root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n")
    without = shutil.ignore_patterns(*(["aiopidfd"] if here else []))  # it is installed
    copy_tree(SOURCE, IMAGE / "project", without)
    python = fill_from_here() if here else fill_from_debian(machine)
    (IMAGE / "bin/sh").unlink(missing_ok=True)
    (IMAGE / "bin/sh").symlink_to("dash")
    init = IMAGE / "init"
    prepare = "" if here else COMPILE.format(python=python)
    init.write_text(
        INIT.format(prepare=prepare, python=python, mark=MARK, arguments=shlex.join(arguments))
    )
    init.chmod(0o755)

    names = "\n".join(str(path.relative_to(IMAGE)) for path in sorted(IMAGE.rglob("*")))
    archive = BUILD / "initramfs"
    with archive.open("wb") as file:
        subprocess.run(
            ["busybox", "cpio", "-o", "-H", "newc", "-R", "0:0"],
            cwd=IMAGE,
            check=True,
            input=names.encode(),
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    return archive


# The boot

# Only a panic is told among what pytest prints (loglevel=1). The others make system calls, new
# pages and namespaces cheaper.
BOOT_OPTIONS: Final = (
    "loglevel=1 panic=-1 mitigations=off init_on_alloc=0 lsm= audit=0 rcupdate.rcu_expedited=1"
)


def boot(kernel: str, machine: Machine, initramfs: Path, memory: int, timeout: float) -> Result:
    """Boot it, show and keep what it prints."""
    command = shlex.split(
        f"{machine.qemu} -m {memory}"
        " -no-reboot -display none -monitor none -nic none -serial stdio"
        f" -append 'console={machine.console} {BOOT_OPTIONS}'"
    )
    command += ["-kernel", str(vmlinuz(kernel, machine)), "-initrd", str(initramfs)]
    print(f"\n=== {kernel}, {machine.debian} ===", flush=True)
    start = time.monotonic()
    log = BUILD / f"{kernel}-{machine.debian}.log"
    with (
        log.open("wb") as file,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as qemu,
    ):
        assert qemu.stdout is not None
        timer = threading.Timer(timeout, qemu.kill)
        timer.start()
        try:
            while output := os.read(qemu.stdout.fileno(), 1 << 16):
                for to in (file, sys.stdout.buffer):
                    to.write(output)
                    to.flush()
        finally:
            timer.cancel()
            qemu.kill()
    seconds = time.monotonic() - start
    text = log.read_text(errors="replace").replace("\r", "")
    status = re.search(rf"^{re.escape(MARK)} (\d+)$", text, re.MULTILINE)
    ends = re.findall(
        r"^=*(.*\b(?:passed|failed|errors?|skipped|deselected)\b.* in [\d.]+s.*?)=*$",
        text,
        re.MULTILINE,
    )
    summary = ends[-1].strip() if ends else "no test was run"
    if status is None:
        summary = (
            f"not done after {timeout:.0f} s" if seconds >= timeout else "ended without a result"
        )
    return Result(status is not None and status[1] == "0", summary, seconds)


def main() -> int:
    """The command; 0 if everything passed on every kernel."""
    before, _, after = __doc__.partition("\n\n")
    own, given = sys.argv[1:], ["tests"]
    if "--" in own:
        cut = own.index("--")
        own, given = own[:cut], own[cut + 1 :]
    parser = argparse.ArgumentParser(
        description=before, epilog=after, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help=", ".join(KERNELS))
    parser.add_argument("--machine", choices=MACHINES, default=HERE.name, help="(%(default)s)")
    parser.add_argument("--short", action="store_true", help=f"{OLDEST} alone")
    parser.add_argument("--install", action="store_true", help="missing packages, as root")
    parser.add_argument("--memory", type=int, default=3072, help="MB in the emulator (%(default)s)")
    parser.add_argument("--timeout", type=float, default=3 * 3600, help="seconds for a boot")
    options = parser.parse_args(own)
    machine = MACHINES[options.machine]
    kernels = options.kernels or ([OLDEST] if options.short else list(KERNELS))
    for kernel in kernels:
        if kernel not in KERNELS:
            parser.error(f"no kernel {kernel}: there are {', '.join(KERNELS)}")

    results: dict[str, Result] = {}
    try:
        require_tools(machine, options.install)
        BUILD.mkdir(parents=True, exist_ok=True)
        fetch(kernels, machine)
        initramfs = pack(machine, given)
        for kernel in kernels:
            results[kernel] = boot(kernel, machine, initramfs, options.memory, options.timeout)
    except ToolError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2

    print()
    for kernel, result in results.items():
        verdict = "ok" if result.ok else "FAILED"
        print(f"{kernel:5}  {verdict:6}  {result.seconds:6.0f} s  {result.summary}")
    return 0 if all(result.ok for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
