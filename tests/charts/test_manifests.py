"""What kustomize and Helm render, by the schemas of two versions of Kubernetes, and by kube-score."""

import asyncio
import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from orderplane.dev.localplane.foreign_crds import foreign_crds
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.localplane.tools import find_chart_tool, go_sources

from ..support.kubernetes_schemas import NAMES, write_schemas
from ..support.local_overlay import copy_with_secrets
from .helm import PRODUCTION, ROOT, Helm, parsed

pytestmark = pytest.mark.charts

KUBERNETES = {"1.33": "schemas", "1.36": "controlplane"}
"""Which module of dev/tools pins the sources of each."""

OVERLAYS = sorted(
    str(path.parent.relative_to(ROOT))
    for pattern in ("kustomize/base", "kustomize/overlays/*", "tests/kustomize/*")
    for path in ROOT.glob(f"{pattern}/kustomization.yaml")
)
LOCAL = "kustomize/overlays/local"
CHARTS: dict[str, dict[str, Any]] = {"chart": {}, "chart, production": {"monitoring": True}}
RENDERED = [*OVERLAYS, *CHARTS]

NOT_HERE = {
    # No tag is used twice, and production names digests: Always would need the registry for each restart.
    "container-image-pull-policy",
}
"""Checks of kube-score that we do not share."""


@pytest.fixture(scope="module")
async def schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    progress, folders = ConsoleProgress(), {}
    crds = await foreign_crds(progress)
    for version, module in KUBERNETES.items():
        folders[version] = tmp_path_factory.mktemp("schemas")
        sources = await go_sources(module, "k8s.io/kubernetes", progress)
        assert f"kubernetes@v{version}." in sources.name
        write_schemas(folders[version], sources / "api" / "openapi-spec" / "swagger.json", crds)
    return folders


async def run(program: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run, [str(program), *words],
        input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def rendered(what: str, helm: Helm, kubectl: Path) -> str:
    if what in CHARTS:
        return await helm.text(CHARTS[what], files=[PRODUCTION] if "production" in what else [])
    if what != LOCAL:
        return await kustomized(kubectl, ROOT / what)
    with TemporaryDirectory() as folder:
        return await kustomized(kubectl, copy_with_secrets(Path(folder)))


async def kustomized(kubectl: Path, folder: Path) -> str:
    done = await run(kubectl, "kustomize", str(folder))
    assert done.returncode == 0, done.stderr
    return done.stdout


async def conformity(program: Path, schemas: Path, manifest: str) -> list[dict[str, Any]]:
    where = ("-schema-location", str(schemas / NAMES))
    done = await run(program, "-strict", "-verbose", "-output", "json", *where, "-", stdin=manifest)
    found: list[dict[str, Any]] = json.loads(done.stdout)["resources"]
    return found


@pytest.fixture(scope="module")
async def kubeconform() -> Path:
    return await find_chart_tool("kubeconform", ConsoleProgress())


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("what", RENDERED)
async def test_every_object_follows_its_schema(
    helm: Helm, kubectl: Path, kubeconform: Path, schemas: dict[str, Path], what: str, version: str
) -> None:
    manifest = await rendered(what, helm, kubectl)
    found = await conformity(kubeconform, schemas[version], manifest)
    assert len(found) == len(parsed(manifest))
    assert [each for each in found if each["status"] != "statusValid"] == []


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("revisionHistoryLimit: 3", "revisionHistoryLimits: 3"),
        ("terminationGracePeriodSeconds: 45", "terminationGracePeriodSeconds: soon"),
        ("maxUnavailable: 0", "maxUnavailable: {}"),
        ("commonName: orderplane-webhook-ca", "commonNames: orderplane-webhook-ca"),
    ],
)
async def test_a_slip_is_found(
    helm: Helm,
    kubectl: Path,
    kubeconform: Path,
    schemas: dict[str, Path],
    version: str,
    right: str,
    wrong: str,
) -> None:
    manifest = await rendered("kustomize/overlays/production", helm, kubectl)
    assert right in manifest
    found = await conformity(kubeconform, schemas[version], manifest.replace(right, wrong))
    assert "statusInvalid" in {each["status"] for each in found}


@pytest.mark.parametrize("what", ["tests/kustomize/monitored", "chart, production"])
async def test_kube_score_has_no_critical_finding(helm: Helm, kubectl: Path, what: str) -> None:
    program = await find_chart_tool("kube-score", ConsoleProgress())
    ignored = [word for name in sorted(NOT_HERE) for word in ("--ignore-test", name)]
    done = await run(
        program, "score", "--output-format", "json", "--ignore-container-cpu-limit", *ignored, "-",
        stdin=await rendered(what, helm, kubectl),
    )  # fmt: skip
    scored = json.loads(done.stdout)
    assert scored
    critical = [
        f"{each['object_meta']['name']}: {check['check']['id']}: {check['comments']}"
        for each in scored
        for check in each["checks"]
        if not check["skipped"] and check["grade"] == 1
    ]
    assert critical == []
