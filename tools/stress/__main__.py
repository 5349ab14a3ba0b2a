"""`python -m tools.stress`: run a host, see whether it lives, and say what it did last if not."""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .hazards import HAZARDS
from .host import Job

LAST = 60  # actions of the log that are shown
PATIENCE = 180  # seconds that a host may take longer than it should


def main() -> int:
    """Run one host; 0 if all was right."""
    parser = argparse.ArgumentParser(prog="tools.stress", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--loops", default="asyncio,uvloop,trio,none")
    parser.add_argument("--workers", type=int, default=3, help="flows on each loop")
    parser.add_argument("--log", help="keep the actions of the last phase here")
    parser.add_argument("--hostile-fds", action="store_true")
    hazards = [*HAZARDS, "exec", "close on the loop"]
    parser.add_argument("--without", action="append", default=[], choices=[*hazards, "memory"])
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        log = arguments.log or str(Path(directory, "log"))
        job = Job(
            seed=arguments.seed,
            ends=time.time() + arguments.seconds,
            log=log,
            loops=arguments.loops.split(","),
            workers=arguments.workers,
            without=arguments.without,
        )
        module = "tools.stress.hostile" if arguments.hostile_fds else "tools.stress.host"
        command = [sys.executable, "-m", module, job.text()]
        # What is freed is not what it was; and memory is not held because it is in pieces.
        special = {"MALLOC_PERTURB_": "165", "MALLOC_ARENA_MAX": "1", "PYTHONMALLOC": "malloc"}
        environment = {**os.environ, **special}
        with subprocess.Popen(command, env=environment) as host:
            try:
                code = host.wait(arguments.seconds + PATIENCE)
            except subprocess.TimeoutExpired:
                host.kill()
                print("--- the host did not come to its end")
                code = host.wait()
        if code == 0:
            return 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with {code}"
        lines = Path(log).read_text(errors="replace").splitlines() if os.path.exists(log) else []
        print("\n".join(lines[-LAST:]))
        print(f"--- the host ended {how}. Seed {arguments.seed}. Above, its last actions.")
        return 1


if __name__ == "__main__":
    sys.exit(main())
