"""The workflows of .github/, by actionlint and by our own rules."""

import asyncio
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.tools import find_actionlint

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))
USES = re.compile(r"uses: (\S+)@(\S+)(?: # (\S+))?$", re.MULTILINE)

MAY_WRITE = {
    ("release", "images"): {"packages", "id-token", "attestations"},
    ("release", "release"): {"contents"},
}
"""Workflow and job: what it may change. Every other job reads alone."""


def jobs() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (file.stem, name, job)
        for file in FILES
        for name, job in yaml.safe_load(file.read_text(encoding="utf-8"))["jobs"].items()
    ]


JOBS = [pytest.param(*each, id=f"{each[0]}-{each[1]}") for each in jobs()]


@pytest.mark.integration
async def test_actionlint_finds_nothing() -> None:
    actionlint = await find_actionlint(ConsoleProgress())
    # Without shellcheck and pyflakes: whether they are installed must not change the result.
    process = await asyncio.create_subprocess_exec(
        actionlint, "-shellcheck=", "-pyflakes=", "-no-color", *FILES,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out.decode()) == (0, "")


def test_every_action_is_pinned_by_hash_beside_its_version_and_has_one() -> None:
    versions: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for file in FILES:
        for action, commit, version in USES.findall(file.read_text(encoding="utf-8")):
            assert re.fullmatch(r"[0-9a-f]{40}", commit), f"{file.name}: {action}@{commit}"
            assert re.fullmatch(r"v\d+\.\d+\.\d+", version), f"{file.name}: {action} {version}"
            versions[action].add((commit, version))
    assert versions
    assert {action: pins for action, pins in versions.items() if len(pins) > 1} == {}


@pytest.mark.parametrize(("workflow", "name", "job"), JOBS)
def test_a_job_may_do_only_what_it_must(workflow: str, name: str, job: dict[str, Any]) -> None:
    document = yaml.safe_load(
        (ROOT / ".github" / "workflows" / f"{workflow}.yaml").read_text(encoding="utf-8")
    )
    assert document["permissions"] in ({}, {"contents": "read"}), "the default of a workflow writes nothing"
    rights = job.get("permissions", document["permissions"])
    writes = {right for right, level in rights.items() if level == "write"}
    assert writes == MAY_WRITE.get((workflow, name), set())
    assert job["timeout-minutes"] <= 90
    for step in job["steps"]:
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_dependabot_knows_every_folder_of_pinned_modules() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))["updates"]
    patterns = {folder for each in updates for folder in each.get("directories", [])}
    modules = {file.parent.relative_to(ROOT) for file in (ROOT / "dev").rglob("go.mod")}
    assert all(any(Path("/", module).match(pattern) for pattern in patterns) for module in modules)
    assert {each["package-ecosystem"] for each in updates} == {
        "github-actions", "docker", "docker-compose", "gomod",
    }  # fmt: skip
