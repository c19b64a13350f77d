"""Whoever is started by a plane takes turns."""

import subprocess
import sys

import pytest

ASK = "import os; print(os.sched_getscheduler(0) == os.SCHED_BATCH)"
START = f"""
import subprocess, sys
from orderplane.dev.localplane.supervisor import use_batch_scheduling
use_batch_scheduling()
subprocess.run([sys.executable, "-c", {ASK!r}], check=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is nothing of the kind elsewhere")
def test_what_a_process_starts_takes_turns_too():
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "True"
