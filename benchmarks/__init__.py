"""`python -m benchmarks`: aiopidfd beside asyncio, uvloop, subprocess and os.posix_spawn."""
