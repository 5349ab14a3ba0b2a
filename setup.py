"""The native module; everything else stands in pyproject.toml."""

import sysconfig

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NATIVE = "aiopidfd/native/"
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))  # has no stable ABI yet

# These run after the clone (see guardian.c): no stack protector, no instrumentation of any kind, and
# a bound on the stack, which has no guard page.
AFTER_CLONE = {NATIVE + name for name in ("guardian.c", "clone.c")}
AFTER_CLONE_FLAGS = [
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-sanitize=all",
    "-fno-tree-loop-distribute-patterns",
    "-fno-plt",
    "-O2",
    "-Wframe-larger-than=1024",
    "-Werror=frame-larger-than=1024",
]


class BuildExt(build_ext):
    """Gives the sources that run after the clone flags of their own."""

    def build_extension(self, ext: Extension) -> None:
        compiler = self.compiler
        compile_one = compiler._compile

        def with_flags(obj, src, ext_, cc_args, extra, pp_opts):  # type: ignore[no-untyped-def]
            if src in AFTER_CLONE:
                extra = [*extra, *AFTER_CLONE_FLAGS]
            return compile_one(obj, src, ext_, cc_args, extra, pp_opts)

        compiler._compile = with_flags
        try:
            super().build_extension(ext)
        finally:
            compiler._compile = compile_one


setup(
    ext_modules=[
        Extension(
            "aiopidfd._native",
            sources=[
                NATIVE + name
                for name in (
                    "module.c",
                    "spawner.c",
                    "life.c",
                    "guardian.c",
                    "clone.c",
                    "probe.c",
                    "pidinfo.c",
                )
            ],
            depends=[
                NATIVE + name
                for name in (
                    "clone.h",
                    "life.h",
                    "pidinfo.h",
                    "probe.h",
                    "record.h",
                    "spawner.h",
                    "syscall.h",
                )
            ],
            extra_compile_args=["-std=gnu11", "-fvisibility=hidden"],
            define_macros=[] if FREE_THREADED else [("Py_LIMITED_API", "0x030B0000")],
            py_limited_api=not FREE_THREADED,
        )
    ],
    cmdclass={"build_ext": BuildExt},
    options={} if FREE_THREADED else {"bdist_wheel": {"py_limited_api": "cp311"}},
)
