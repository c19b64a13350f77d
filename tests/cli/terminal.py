"""Run the `orderplane` command as a process."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


async def orderplane(
    *words: str, env: Mapping[str, str] | None = None, typed: str = "", seconds: float = 120
) -> Answer:
    """Run `orderplane WORDS`, neither its input (`typed`) nor its output on a terminal."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ORDERPLANE_P")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orderplane.cli.main", *words,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**clean, **(env or {})},
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(typed.encode()), seconds)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Answer(process.returncode, out.decode(), err.decode())
