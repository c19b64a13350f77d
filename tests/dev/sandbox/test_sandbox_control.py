"""What the sandboxes refuse: wrong faults, wrong scans, missing settings."""

import asyncio
import os
import sys

import pytest


@pytest.mark.parametrize("body", [[], {"mode": "explode"}, {"mode": "hang", "seconds": "soon"}])
async def test_wrong_faults_are_refused(payments, body):
    status, document, _ = await payments.call("POST", "/_sandbox/faults", json=body)
    assert status == 400
    assert document["error"]


@pytest.mark.parametrize(
    "body", [[], {}, {"tracking_code": "SBX", "status": "in_transit"}, {"tracking_code": 1, "status": "x"}]
)
async def test_wrong_scans_are_refused(carrier_sandbox, body):
    status, document, _ = await carrier_sandbox.call("POST", "/_sandbox/scan", json=body)
    assert status == 400
    assert document["error"]


@pytest.mark.parametrize("name", ["payments", "carrier"])
async def test_missing_settings_are_named(name, tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("ORDERPLANE_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"orderplane.dev.sandbox.{name}",
        env=env,
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"ORDERPLANE_STATE_DIR" in said
