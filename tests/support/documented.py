"""Commands of documents, to be run as they stand there."""

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

from orderplane.dev.localplane.paths import project_root

PROMPT = "$ "


def blocks(page: Path, language: str) -> list[str]:
    """The lines of a page's blocks of code in one language."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [line.strip() for block in found for line in block.splitlines() if line.strip()]


def typed_in(page: Path) -> list[str]:
    """What is typed in a page's sessions: the lines with a prompt, and those that continue them."""
    typed: list[str] = []
    for block in re.findall(r"^```\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        is_open = False
        for line in block.splitlines():
            if line.startswith(PROMPT):
                typed.append(line.removeprefix(PROMPT))
            elif is_open:
                typed[-1] += f"\n{line}"
            # A backslash or an open quote goes on.
            is_open = bool(typed) and (line.endswith("\\") or typed[-1].count("'") % 2 == 1)
    return typed


async def run(
    command: str, env: Mapping[str, str], *, typed: str = "", seconds: float = 90
) -> tuple[int, str]:
    """Exit code and output of a command that is run as a person would: in a shell, in the checkout."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-o", "pipefail", "-c", command, env=env, cwd=project_root(),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(typed.encode()), seconds)
    assert process.returncode is not None
    return process.returncode, out.decode()
