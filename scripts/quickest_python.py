"""Print the quickest of several builds of one Python version: `quickest_python.py FIRST OTHER...`.

A build without profile-guided optimization, as pyenv makes by default, takes up to 50 % longer for the same
work. Needs only the standard library.
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

WORTH_IT = 0.85
"""Another build has to need less than this share of the first one's time: the probe is noisy."""

PROBE = """
import ensurepip, sys, time, venv

def work():
    started = time.perf_counter()
    counts = {}
    for number in range(20000):
        counts[str(number)] = counts.get(str(number // 2), 0) + number
    return time.perf_counter() - started

print(min(work() for _ in range(9)), "%d.%d" % sys.version_info[:2], sys.executable)
"""


class Build(NamedTuple):
    """One interpreter: seconds that the probe took, version as `3.11`, real path."""

    seconds: float
    version: str
    path: str


def probe(program: str) -> Build | None:
    """Time one interpreter; None if it cannot be used."""
    try:
        answer = subprocess.run(
            [program, "-c", PROBE], capture_output=True, text=True, timeout=20, check=True
        ).stdout
        seconds, version, path = answer.strip().split(" ", 2)
        return Build(float(seconds), version, path)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def quickest(first: Build, others: Sequence[Build]) -> Build:
    """Another build of the same version if it is clearly quicker, else the first."""
    best = min((other for other in others if other.version == first.version), default=first)
    return best if best.seconds < WORTH_IT * first.seconds else first


def main(programs: Sequence[str]) -> None:
    """Print the path of the chosen interpreter."""
    first, *others = [probe(program) for program in programs]
    chosen = quickest(first, [build for build in others if build is not None]).path if first else programs[0]
    sys.stdout.write(f"{chosen}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
