"""What a plane starts runs with SCHED_BATCH."""

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


@pytest.mark.skipif(sys.platform != "linux", reason="SCHED_BATCH exists on Linux only")
def test_children_inherit_the_scheduling_policy():
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "True"
