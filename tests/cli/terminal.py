"""The real command in a process of its own."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command left behind."""

    code: int
    out: str
    err: str


async def orderplane(*words: str, env: Mapping[str, str] | None = None, seconds: float = 120) -> Answer:
    """Run `orderplane WORDS`, its output not on a terminal."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORDERPLANE_P")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orderplane.cli.main", *words,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**clean, **(env or {})},
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Answer(process.returncode, out.decode(), err.decode())
