"""The manifests that are installed into a cluster."""

from typing import Any

import pytest
import yaml

from orderplane.adapters.kubernetes import install
from orderplane.adapters.kubernetes.install import shipped_manifests

DOCUMENTS = [
    document
    for file in shipped_manifests(with_policies=True)
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda document: f"{document['kind']}/{document['metadata']['name']}"
)
def test_each_has_the_recommended_labels(document: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/"""
    labels = document["metadata"]["labels"]
    assert labels.pop("app.kubernetes.io/component")
    assert labels == {f"app.kubernetes.io/{name}": "orderplane" for name in ("name", "part-of", "managed-by")}


def test_an_installation_without_manifests_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(install.resources, "files", lambda _package: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no \.yaml files"):
        shipped_manifests(with_policies=False)
