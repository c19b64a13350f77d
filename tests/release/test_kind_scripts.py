"""scripts/kind-up and scripts/kind-smoke, which cannot be started here: what they name exists."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCRIPTS = {name: (ROOT / "scripts" / name).read_text(encoding="utf-8") for name in ("kind-up", "kind-smoke")}
OBJECT = re.compile(r"\b(service|job|cronjob)/(orderplane-\w+)")


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_read_it(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / "scripts" / name)], check=True, timeout=30)


def test_the_node_is_pinned_by_digest_beside_its_version() -> None:
    assert re.search(r"kindest/node:v\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", SCRIPTS["kind-up"])


def test_what_they_name_is_in_the_overlay() -> None:
    documents = [
        document
        for file in (ROOT / "kustomize").rglob("*.yaml")
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
        if "kind" in document  # the alerts are a file of Prometheus
    ]
    there = {(each["kind"].lower(), each.get("metadata", {}).get("name")) for each in documents}
    named = {each for text in SCRIPTS.values() for each in OBJECT.findall(text)}
    assert {kind for kind, _ in named} == {"service", "job", "cronjob"}
    assert named <= there
