"""The sessions of the README, typed literally on a running plane.

Their user is not the one of the examples of the OpenAPI document, whom other tests of the plane make.
"""

import os
from pathlib import Path

import pytest

from orderplane.dev.demo.products import seed
from orderplane.dev.localplane.paths import project_root

from .support.documented import run, typed_in
from .support.plane import PASSWORD, Merchant

pytestmark = [pytest.mark.integration, pytest.mark.timeout(290)]

README = project_root() / "README.md"

ENVIRONMENT = 'eval "$(.venv/bin/orderplane dev env)"'
"""With it begins what is typed while everything runs; before it, the README shows what the demo leaves."""

MAY_FIND = "orderplane audit"
"""Exit code 1 is an answer: other tests of this plane leave what an audit finds."""


async def test_every_command_of_the_readme_runs(merchant: Merchant, tmp_path: Path) -> None:
    """In one shell, so that variables last; each must succeed and say something."""
    await seed(merchant.pool)
    (tmp_path / "orderplane").symlink_to(merchant.plane.state)
    commands = typed_in(README)
    commands = commands[commands.index(ENVIRONMENT) :]
    assert len(commands) > 12
    env = {name: value for name, value in os.environ.items() if not name.startswith("ORDERPLANE_")}
    env |= {"XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    checked = [
        f"{{ {command}\n}} || {{ echo 'failed: line {n}' >&2; exit 9; }}"
        for n, command in enumerate(commands)
    ]
    script = "\n".join(
        line.replace("|| {", "|| [ $? = 1 ] || {") if command.startswith(MAY_FIND) else line
        for line, command in zip(checked, commands, strict=True)
    )
    code, out = await run(script, env, typed=f"{PASSWORD}\n", seconds=200)
    assert code == 0, out
    for said in (
        "order.orderplane.dev/tea-and-a-mug condition met", "Delivered",
        '"tea-and-a-mug" deleted', "can log in",
        "is placed: 16.42 EUR", '"sku"', '"phase":"Pending"',
    ):  # fmt: skip
        assert said in out, said


def test_what_is_typed_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\n$ one \\\n    more\nanswer\n$ two 'a\n  b'\nanswer\n```\n")
    assert typed_in(page) == ["one \\\n    more", "two 'a\n  b'"]
