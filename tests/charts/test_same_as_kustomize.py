"""The chart installs what kustomize installs. Decision 21 says why there are two, held together by a test."""

import asyncio
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from .helm import PRODUCTION, ROOT, Helm, Json, by_name, is_hook, parsed

pytestmark = pytest.mark.charts

USUAL = ("app.kubernetes.io/", "helm.sh/")
OF_HELM = {
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
    "helm.sh/resource-policy",
    "checksum/settings",
}
"""Labels and annotations that tell one release from another, and that begin a rollout."""

WITHOUT_NAMESPACE = {
    "FlowSchema", "PriorityLevelConfiguration", "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
}  # fmt: skip

PAIRS: dict[str, tuple[list[Path], Json]] = {
    "kustomize/base": ([], {"webhook": {"certificate": {"issuer": "you"}}}),
    "tests/kustomize/self-signed": ([], {}),
    "kustomize/overlays/production": ([PRODUCTION], {}),
    "tests/kustomize/monitored": ([PRODUCTION], {"monitoring": True}),
}
"""Values that install what a folder does."""


@pytest.mark.parametrize("folder", PAIRS)
async def test_the_chart_makes_the_same_objects(helm: Helm, kubectl: Path, folder: str) -> None:
    files, values = PAIRS[folder]
    chart = [each for each in await helm.template(values, files=files) if not is_hook(each)]
    done = await asyncio.to_thread(
        subprocess.run, [str(kubectl), "kustomize", str(ROOT / folder)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kustomize = [each for each in parsed(done.stdout) if not is_own_namespace(each)]
    from_chart, from_kustomize = (fields(by_name(normal(each))) for each in (chart, kustomize))
    differences = [
        f"{place}: {from_chart.get(place)} in the chart, {from_kustomize.get(place)} in kustomize"
        for place in sorted(from_chart.keys() | from_kustomize.keys())
        if place not in from_chart
        or place not in from_kustomize
        or from_chart[place] != from_kustomize[place]
    ]
    assert not differences, "\n".join(differences)


def is_own_namespace(document: Json) -> bool:
    """Helm installs into a namespace that is there; the chart's README says which labels it needs."""
    return bool(document["kind"] == "Namespace")


def normal(documents: Sequence[Json]) -> list[Json]:
    """The objects without what each tool has of its own."""
    # kustomize gives each version of a ConfigMap a name, and the chart each revision of a Job.
    endings = {"ConfigMap": r"-[2456789bcdfghkmt]{10}$", "Job": r"-\d+$"}
    names = {
        each["metadata"]["name"]: re.sub(endings[each["kind"]], "", each["metadata"]["name"])
        for each in documents
        if each["kind"] in endings
    }
    return [_plain(_without_own_labels(each), names) for each in documents]


def _without_own_labels(document: Json) -> Json:
    metadata = dict(document["metadata"])
    # Every object of the chart has the usual labels; those of kustomize's components have none.
    labels = metadata.pop("labels", {})
    if others := {name: value for name, value in labels.items() if not name.startswith(USUAL)}:
        metadata["labels"] = others
    # kustomize does not know that these kinds have no namespace; the API server ignores it.
    if document["kind"] in WITHOUT_NAMESPACE:
        metadata.pop("namespace", None)
    # A kustomization of a namespace of its own denies everything in it; the chart may share one.
    is_deny_all = document["kind"] == "NetworkPolicy" and metadata["name"] == "orderplane-deny-all"
    spec = {"spec": {**document["spec"], "podSelector": {}}} if is_deny_all else {}
    return {**document, "metadata": metadata, **spec}


def fields(value: Any, place: str = "") -> dict[str, Any]:
    """Every field that has no fields of its own, by its place."""
    children: dict[Any, Any] = dict(enumerate(value)) if isinstance(value, list) else value
    if not isinstance(children, dict) or not children:
        return {place: value}
    found = {}
    for name, child in children.items():
        step = " ".join(name) if isinstance(name, tuple) else name
        found |= fields(child, f"{place}.{step}")
    return found


def _plain(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        plain = {
            name: _plain(each, names)
            for name, each in value.items()
            if name not in OF_HELM and each is not None
        }
        # A patch puts a volume first; their order means nothing.
        plain |= (
            {"volumes": sorted(plain["volumes"], key=lambda each: each["name"])} if "volumes" in plain else {}
        )
        return {name: each for name, each in plain.items() if name != "annotations" or each}
    if isinstance(value, list):
        return [_plain(each, names) for each in value]
    return names.get(value, value) if isinstance(value, str) else value
