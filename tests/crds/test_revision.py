"""The revision of the CRDs: it grows when they change, and the operator does not run with an older one."""

import hashlib
from typing import Any

import pytest
import yaml

from orderplane.adapters.kubernetes.crd_revision import check_crds
from orderplane.adapters.kubernetes.install import shipped_manifests
from orderplane.adapters.settings import SettingsError
from orderplane.crds.api_errors import NotFound
from orderplane.crds.meta import REVISION, REVISION_ANNOTATION, Kind

DIGEST = "56fafcfeddf18b7cc133490f3b42f77441b08b7a042df9050676cbc3fd877bcd"
"""Of what the CRDs specify at this revision."""

CRDS = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in shipped_manifests(with_policies=False)]


def test_every_crd_has_the_revision() -> None:
    assert len(CRDS) == len(Kind)
    assert {crd["metadata"]["annotations"][REVISION_ANNOTATION] for crd in CRDS} == {str(REVISION)}


def test_a_change_of_a_crd_makes_a_new_revision() -> None:
    text = yaml.safe_dump([crd["spec"] for crd in CRDS], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == DIGEST, (
        "The CRDs have changed. Add 1 to REVISION in crds/meta.py and to the annotation in each crds/*.yaml, "
        f"once a release, and write the new digest here: {digest}"
    )


class Cluster:
    """Its CRDs, with these annotations; None is a CRD that is not installed."""

    def __init__(self, annotations: dict[Kind, dict[str, str] | None]) -> None:
        self._annotations = {f"{kind.plural}.orderplane.dev": it for kind, it in annotations.items()}

    async def read_path(self, path: str) -> dict[str, Any]:
        annotations = self._annotations[path.rsplit("/", 1)[1]]
        if annotations is None:
            raise NotFound(404, "NotFound", path)
        # The API server leaves out what is empty.
        return {"metadata": {"annotations": annotations} if annotations else {}}


def cluster(**of_orders: Any) -> Cluster:
    right: dict[Kind, dict[str, str] | None] = {kind: {REVISION_ANNOTATION: str(REVISION)} for kind in Kind}
    return Cluster({**right, Kind.ORDER: of_orders["annotations"]})


@pytest.mark.parametrize("revision", [REVISION, REVISION + 1])
async def test_the_same_revision_and_a_newer_one_are_right(revision: int) -> None:
    await check_crds(cluster(annotations={REVISION_ANNOTATION: str(revision)}))


@pytest.mark.parametrize(
    ("annotations", "told"),
    [
        (None, "The CRD of Order is not installed"),
        ({}, "The CRD of Order has revision 0"),
        ({REVISION_ANNOTATION: "new"}, "The CRD of Order has revision 0"),
        ({REVISION_ANNOTATION: str(REVISION - 1)}, f"The CRD of Order has revision {REVISION - 1}"),
    ],
)
async def test_an_older_one_is_refused_with_the_command(
    annotations: dict[str, str] | None, told: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        await check_crds(cluster(annotations=annotations))
    assert told in caught.value.problems[0]
    assert caught.value.problems[1:] == ("Run: orderplane crds install",)
