"""The chart on a real API server: what Helm sends, and what an upgrade and an uninstall leave."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from orderplane.dev.localplane.foreign_crds import foreign_crds
from orderplane.dev.localplane.plane import Plane
from orderplane.dev.localplane.progress import ConsoleProgress

from ..support.plane import bare_plane
from .helm import CHART, PRODUCTION, Helm, Json, by_name, parsed

pytestmark = pytest.mark.charts

NAMESPACE = "orderplane-system"
CRDS = {f"{kind}.orderplane.dev" for kind in ("orders", "payments", "reservations", "shipments")}


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    """A plane of its own, with the CRDs of other projects and a namespace of the strictest Pod Security.

    The plane's webhook has an address on this machine; the chart names a Service.
    """
    crds = [word for path in await foreign_crds(ConsoleProgress()) for word in ("-f", str(path))]
    async with bare_plane(tmp_path_factory.mktemp("charts")) as plane:
        await kubectl(plane, "apply", "--server-side", *crds)
        await kubectl(plane, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        await kubectl(plane, "create", "namespace", NAMESPACE)
        await kubectl(plane, "label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted")
        # A controller would make it.
        await kubectl(plane, "-n", NAMESPACE, "create", "serviceaccount", "default")
        await kubectl(plane, "delete", "mutatingwebhookconfiguration", "orderplane-webhook")
        yield plane


async def kubectl(plane: Plane, *words: str, stdin: str | None = None) -> str:
    done = await asyncio.to_thread(
        subprocess.run, [str(plane.kubectl), "--kubeconfig", str(plane.kubeconfig("admin")), *words],
        input=stdin, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # Warnings say what Pod Security would refuse.
    assert "would violate" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("files", [[], [PRODUCTION]], ids=["defaults", "production"])
async def test_the_api_server_takes_every_object(cluster: Plane, helm: Helm, files: list[Path]) -> None:
    manifest = await helm.text({"monitoring": bool(files)}, files=files)
    answer = await kubectl(
        cluster, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-o", "name", "-f", "-",
        stdin=manifest,
    )  # fmt: skip
    assert len(answer.splitlines()) == len(parsed(manifest))


async def test_it_works_as_a_part_of_another_chart(cluster: Plane, helm: Helm, tmp_path: Path) -> None:
    parent = tmp_path / "shop"
    shutil.copytree(CHART, parent / "charts" / "orderplane")
    (parent / "Chart.yaml").write_text(
        yaml.safe_dump({
            "apiVersion": "v2", "name": "shop", "version": "1.0.0",
            "dependencies": [{"name": "orderplane", "version": "*", "condition": "orderplane.enabled"}],
        })
    )  # fmt: skip
    values = {
        "global": {"team": "shop"},
        "orderplane": {"enabled": True, "gateway": {"replicas": 3}, "networkPolicies": {"enabled": True}},
    }
    where = {"release": "spring", "namespace": NAMESPACE, "chart": parent}
    assert await helm.template({"orderplane": {"enabled": False}}, **where) == []
    manifest = await helm.text(values, **where)
    await kubectl(
        cluster, "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-",
        stdin=manifest,
    )  # fmt: skip
    objects = by_name(parsed(manifest))
    assert objects["Deployment", "spring-orderplane-gateway"]["spec"]["replicas"] == 3
    assert names_that_lead_nowhere(objects) == []
    assert f"system:serviceaccount:{NAMESPACE}:spring-orderplane-operator" in manifest
    assert f"system:serviceaccount:{NAMESPACE}:orderplane-" not in manifest


async def test_another_namespace_is_meant_everywhere(helm: Helm) -> None:
    text = await helm.text(namespace="elsewhere", files=[PRODUCTION])
    assert "system:serviceaccount:elsewhere:orderplane-operator" in text
    assert "orderplane-system" not in text


def names_that_lead_nowhere(objects: dict[tuple[str, str], Json]) -> list[str]:
    """References of pods and bindings to ServiceAccounts and ConfigMaps that the chart does not make."""
    accounts = {name for kind, name in objects if kind == "ServiceAccount"}
    maps = {name for kind, name in objects if kind == "ConfigMap"}
    missing = []
    for (kind, name), each in objects.items():
        if kind in {"Deployment", "Job"}:
            spec = each["spec"]["template"]["spec"]
            used = [s["configMapRef"]["name"] for s in spec["containers"][0].get("envFrom", [])]
            missing += [f"{name}: {one}" for one in used if one not in maps]
            if spec["serviceAccountName"] not in accounts:
                missing.append(f"{name}: {spec['serviceAccountName']}")
        if kind == "ClusterRoleBinding" and each["subjects"][0]["name"] not in accounts:
            missing.append(f"{name}: {each['subjects'][0]['name']}")
    return missing


async def test_an_upgrade_reaches_the_crds_and_an_uninstall_leaves_them(cluster: Plane, helm: Helm) -> None:
    helm = replace(helm, kubeconfig=cluster.kubeconfig("admin"))
    where = ("-n", NAMESPACE, "--timeout", "60s")

    async def done(*words: str) -> str:
        answer = await helm.run(*words, *where)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    # The plane has all of it by `orderplane crds install`, as somebody who changes to the chart has.
    refused = await helm.run("install", "orderplane", str(CHART), *where)
    assert refused.returncode != 0
    told = await done("install", "orderplane", str(CHART), "--take-ownership", "--force-conflicts")
    assert "A first order" in told

    async def short_names() -> str:
        names = "jsonpath={.spec.names.shortNames}"
        return await kubectl(cluster, "get", "crd", "orders.orderplane.dev", "-o", names)

    async def change(name: str) -> None:
        await kubectl(
            cluster, "patch", "crd", "orders.orderplane.dev", "--type=json",
            "-p", f'[{{"op": "replace", "path": "/spec/names/shortNames", "value": ["{name}"]}}]',
        )  # fmt: skip

    # Somebody's change, older than the chart: the upgrade brings the chart's word back.
    await change("stale")
    await done("upgrade", "orderplane", str(CHART), "-f", str(PRODUCTION), "--force-conflicts")
    assert "stale" not in await short_names()
    budgets = await kubectl(cluster, "-n", NAMESPACE, "get", "pdb", "-o", "name")
    assert len(budgets.splitlines()) == 7
    jobs = await kubectl(cluster, "-n", NAMESPACE, "get", "jobs", "-o", "name")
    assert jobs == "job.batch/orderplane-migrate-2\n"

    await done("rollback", "orderplane", "1", "--force-conflicts")
    assert await kubectl(cluster, "-n", NAMESPACE, "get", "pdb", "-o", "name") == ""

    # As docs/upgrade.md has it for a version with older CRDs; the way forward takes them over again.
    await change("newer")
    await done("upgrade", "orderplane", str(CHART), "--set", "crds.install=false")
    assert "newer" in await short_names()
    # Without any value of its own, an upgrade keeps those of the one before.
    await done("upgrade", "orderplane", str(CHART), "--reset-values", "--force-conflicts")
    assert "newer" not in await short_names()

    # No kubelet runs the look at open orders here.
    await done("uninstall", "orderplane", "--no-hooks")
    left = await kubectl(cluster, "get", "crd", "-o", "jsonpath={.items[*].metadata.name}")
    assert set(left.split()) >= CRDS
    assert await kubectl(cluster, "-n", NAMESPACE, "get", "deployments", "-o", "name") == ""
    await done("install", "orderplane", str(CHART))
