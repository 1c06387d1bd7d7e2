"""Processes of their own: what they take of memory and time."""

import subprocess
import sys
import time
from dataclasses import dataclass

MEASURE = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
sys.exit(status)
"""


@dataclass(frozen=True)
class Used:
    """Peak resident memory in MB, and wall-clock seconds."""

    memory: float
    seconds: float


def run_process(words: list[str], environment: dict[str, str] | None = None) -> Used:
    """Run a command to its end."""
    start = time.perf_counter()
    # through a small process: memory of this one would count as the command's
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, *words], env=environment, text=True, capture_output=True
    )
    if result.returncode:
        sys.exit(f"failed: {' '.join(words)}\n{result.stderr}")
    return Used(float(result.stdout), time.perf_counter() - start)


def run_stage(*arguments: object) -> Used:
    """Run a stage by its command line."""
    # -P: of this process's package, not one that lies where it runs
    return run_process([sys.executable, "-P", "-m", "ecsnet", *map(str, arguments)])
