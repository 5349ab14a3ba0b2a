"""The native module; everything else stands in pyproject.toml."""

import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig

from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # has no stable ABI yet

NATIVE = "aiopidfd/native/"

# What runs after the clone (see guardian.c): no instrumentation of any kind, no symbol that is
# bound lazily, and a bound on the stack, which has no guard page.
AFTER_CLONE_FLAGS = [
    "-std=gnu11",
    "-O2",
    "-ffreestanding",
    "-fvisibility=hidden",
    "-fno-plt",
    "-fno-sanitize=all",
    "-fno-stack-protector",
    "-fno-tree-loop-distribute-patterns",
    "-Werror=frame-larger-than=1024",
]
if platform.machine() == "aarch64":
    AFTER_CLONE_FLAGS.append("-mno-outline-atomics")  # those are functions of libgcc's

HEADERS = [
    NATIVE + name
    for name in (
        "after_clone.h",
        "guardian_kills_children.h",
        "clone_assembly.h",
        "fd_identity.h",
        "fork.h",
        "jail.h",
        "lifelines.h",
        "lines_python311.h",
        "module.h",
        "python_arguments.h",
        "python_types.h",
        "reserved_numbers.h",
        "pidinfo.h",
        "kernel_features.h",
        "spawn_record.h",
        "child.h",
        "spawner.h",
        "syscall.h",
        "descendants.h",
        "wait_readable.h",
    )
]
AFTER_CLONE = [
    NATIVE + name
    for name in (
        "guardian.c",
        "guardian_tries_calls.c",
        "leave_descriptor_table.c",
        "guardian_watches_program.c",
        "before_exec.c",
        "enter_cgroup.c",
        "exec_when_busy.c",
        "guardian_kills_children.c",
        "jail.c",
        "clone_assembly.c",
        "fork_frame.c",
        "libc_fork.c",
        "forked_process.c",
    )
]


def description():
    """The README for a package index: a file is named where a link would lead nowhere."""

    def named(link):
        label, path = link[1], link[2]
        names = {path, os.path.basename(path), os.path.splitext(os.path.basename(path))[0]}
        return f"`{path}`" if label.strip("`/") in names else f"{label} (`{path}`)"

    with open("README.md", encoding="utf-8") as readme:
        text = readme.read()
    text = re.sub(r"^!\[[^]]*\]\([^)]*\)\n\n", "", text, flags=re.MULTILINE)  # a picture
    text = re.sub(r"\[([^]]+)\]\(([^):#]+)(?:#[^)]*)?\)", named, text)
    return f"{text}\nThe files that are named here are in the source distribution.\n"


class BuildAfterClone(build_clib):
    """The first step that compiles: it says in one line what is missing, before a compiler does."""

    def run(self):
        """Look, then compile.

        Raises:
            SystemExit: something is missing; the text says what.
        """
        missing = self.missing()
        if missing:
            raise SystemExit(f"aiopidfd cannot be built: {missing}")
        for name, _ in self.libraries:  # ar(1) would keep what was built under other names
            archive = os.path.join(self.build_clib, f"lib{name}.a")
            if os.path.exists(archive):
                os.unlink(archive)
        super().run()

    @staticmethod
    def missing():
        """What is missing, or None."""
        if sys.platform != "linux":
            return f"it needs Linux, and this is {platform.system() or sys.platform}"
        compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        if not shutil.which(shlex.split(compiler)[0]):
            return f"the C compiler {compiler.split()[0]!r} is missing (Debian: apt install gcc)"
        folders = {sysconfig.get_path("include"), sysconfig.get_path("platinclude")}
        if not any(os.path.exists(os.path.join(folder, "Python.h")) for folder in folders):
            return "Python's headers (Python.h) are missing (Debian: apt install python3-dev)"
        return None


setup(
    long_description=description(),
    long_description_content_type="text/markdown",
    cmdclass={"build_clib": BuildAfterClone},
    libraries=[
        (
            "aiopidfd_after_clone",
            {
                "sources": AFTER_CLONE,
                "obj_deps": {"": HEADERS},
                "cflags": AFTER_CLONE_FLAGS,
            },
        )
    ],
    ext_modules=[
        Extension(
            "aiopidfd._native",
            sources=[
                NATIVE + name
                for name in (
                    "module.c",
                    "python_arguments.c",
                    "python_descriptors.c",
                    "python_fork.c",
                    "python_spawn.c",
                    "python_tree.c",
                    "python_types.c",
                    "child_table.c",
                    "children_left_behind.c",
                    "free_record.c",
                    "reopen_pidfds.c",
                    "wake_guardian.c",
                    "wait_readable.c",
                    "forked_copies.c",
                    "child_handle.c",
                    "spawn_record.c",
                    "start.c",
                    "clone_guardian.c",
                    "lost_lifelines.c",
                    "child_state.c",
                    "guardian_killed_in_start.c",
                    "orphan_exit.c",
                    "reap_guardian.c",
                    "refused_call.c",
                    "fork_caller.c",
                    "hub.c",
                    "lifelines.c",
                    "lines_python311.c",
                    "reserved_numbers.c",
                    "pidinfo.c",
                    "kernel_features.c",
                    "descendants.c",
                    "block_on_child.c",
                )
            ],
            depends=[*HEADERS, *AFTER_CLONE],
            extra_compile_args=["-std=gnu11", "-fvisibility=hidden"],
            define_macros=[] if FREE_THREADED else [("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=not FREE_THREADED,
        )
    ],
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
