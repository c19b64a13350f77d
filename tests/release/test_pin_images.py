"""scripts/pin-images and scripts/image-release: what a release installs is what it has signed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from orderplane.dev.localplane.controlplane import control_plane_binaries
from orderplane.dev.localplane.progress import ConsoleProgress

ROOT = Path(__file__).parents[2]
PREFIX = "registry.example/orderplane"
OVERLAY, CHART = FOLDERS = "kustomize/overlays/production", "charts/orderplane"


def array(script: str, name: str) -> set[str]:
    """The words of an array of a script."""
    found = re.search(
        rf"^{name}=\((.*)\)$", (ROOT / "scripts" / script).read_text(encoding="utf-8"), re.MULTILINE
    )
    assert found is not None
    return set(found[1].split())


RELEASED = array("image-release", "TARGETS")
DIGESTS = {target: f"sha256:{number:064x}" for number, target in enumerate(sorted(RELEASED))}


def pin(tree: Path, digests: str, *folders: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "pin-images"), PREFIX, *(folders or FOLDERS)],
        cwd=tree, input=digests, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def as_lines() -> str:
    return "".join(f"{target} {digest}\n" for target, digest in DIGESTS.items())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The folders that a release ships."""
    for name in ("kustomize", "charts", "crds", "manifests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_what_is_released_is_what_the_product_consists_of() -> None:
    """And nothing that is for demonstrations."""
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"^FROM product AS (\w+)$", dockerfile, re.MULTILINE)) == RELEASED
    assert array("image", "TARGETS") > RELEASED


def contents(tree: Path) -> list[str]:
    return [(tree / OVERLAY / "kustomization.yaml").read_text(), (tree / CHART / "values.yaml").read_text()]


def test_the_chart_installs_what_was_published(tree: Path) -> None:
    assert pin(tree, as_lines()).returncode == 0
    values = yaml.safe_load((tree / CHART / "values.yaml").read_text())
    assert values["image"]["prefix"] == PREFIX
    assert values["image"]["digests"] == DIGESTS


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_pinned_is_not_pinned_again(tree: Path, folder: str) -> None:
    assert pin(tree, as_lines(), folder).returncode == 0
    pinned = contents(tree)
    again = pin(tree, as_lines())
    assert again.returncode == 1
    assert "names images already" in again.stderr
    assert contents(tree) == pinned


@pytest.mark.parametrize(
    "digests", ["", "gateway\n", "gateway sha256:12\n", "gateway sha256:" + "g" * 64 + "\n"]
)
def test_what_is_no_digest_changes_nothing(tree: Path, digests: str) -> None:
    before = contents(tree)
    refusal = pin(tree, digests)
    assert refusal.returncode == 1
    assert "Nothing was changed" in refusal.stderr
    assert contents(tree) == before


def test_a_folder_that_is_not_there_changes_nothing(tree: Path) -> None:
    before = contents(tree)
    refusal = pin(tree, as_lines(), OVERLAY, "charts/none")
    assert refusal.returncode == 1
    assert "charts/none/values.yaml" in refusal.stderr
    assert contents(tree) == before


@pytest.mark.integration
async def test_every_pod_of_the_pinned_overlay_runs_a_digest(tree: Path) -> None:
    pin(tree, as_lines())
    binaries = await control_plane_binaries(ConsoleProgress(), ("kubectl",))
    images = {
        container["image"]
        for document in rendered(binaries["kubectl"], tree / OVERLAY)
        if document["kind"] in {"Deployment", "Job", "CronJob"}
        for container in _containers(document)
    }
    assert images
    assert images <= {f"{PREFIX}/{target}@{digest}" for target, digest in DIGESTS.items()}


def rendered(kubectl: Path, overlay: Path) -> list[dict[str, object]]:
    done = subprocess.run(
        [str(kubectl), "kustomize", str(overlay)], capture_output=True, text=True, timeout=60, check=True
    )
    return list(yaml.safe_load_all(done.stdout))


def _containers(document: dict[str, object]) -> list[dict[str, str]]:
    found: object = document
    for key in ("spec", "jobTemplate", "spec", "template", "spec", "containers"):
        if isinstance(found, dict) and key in found:
            found = found[key]
    assert isinstance(found, list)
    return found
