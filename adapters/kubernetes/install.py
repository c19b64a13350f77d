"""Install CRDs, roles, policies and the webhook configuration by server-side apply."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException

from orderplane.adapters.package_files import package_files

_FIELD_MANAGER = "orderplane"


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Address of an admission webhook that is not behind a Service.

    Args:
        ca_bundle: PEM, in base64.
    """

    url: str
    ca_bundle: str


def shipped_manifests(*, with_policies: bool) -> list[Traversable]:
    """The manifests in this package: CRDs and, `with_policies`, roles, webhook configuration and policies.

    Raises:
        FileNotFoundError: the package was built without them.
    """
    rooms = ("crds", "manifests") if with_policies else ("crds",)
    return [f for room in rooms for f in package_files(resources.files(f"orderplane.{room}"), ".yaml")]


async def install(
    files: Sequence[Traversable],
    *,
    kubeconfig: Path | None,
    context: str | None = None,
    webhook: WebhookTarget | None = None,
    namespaces: Sequence[str] = (),
) -> list[str]:
    """Create the namespaces, apply every document of the files in order, and wait until the CRDs are served.

    Args:
        webhook: Replaces the Service in webhook configurations.

    Returns:
        The applied objects, as `Kind/name`.

    Raises:
        kubernetes.client.ApiException: the API server refused one of them.
        TimeoutError: a CRD is not served after 30 s.
    """
    return await asyncio.to_thread(_install, files, kubeconfig, context, webhook, namespaces)


def _install(
    files: Sequence[Traversable],
    kubeconfig: Path | None,
    context: str | None,
    webhook: WebhookTarget | None,
    namespaces: Sequence[str],
) -> list[str]:
    api = config.new_client_from_config(  # type: ignore[no-untyped-call]
        config_file=str(kubeconfig) if kubeconfig else None, context=context
    )
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces
    ]
    for file in files:
        documents += [
            document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document
        ]
    with api:
        resources: Any = dynamic.DynamicClient(api)  # type: ignore[no-untyped-call]
        for document in documents:
            if webhook is not None and document["kind"].endswith("WebhookConfiguration"):
                _use_url(document, webhook)
            kind = resources.resources.get(api_version=document["apiVersion"], kind=document["kind"])
            resources.server_side_apply(
                kind,
                body=document,
                name=document["metadata"]["name"],
                field_manager=_FIELD_MANAGER,
                force_conflicts=True,
                _request_timeout=15,
            )
        names = [d["metadata"]["name"] for d in documents if d["kind"] == "CustomResourceDefinition"]
        _wait_established(client.ApiextensionsV1Api(api), names)
    return [f"{document['kind']}/{document['metadata']['name']}" for document in documents]


def _use_url(document: dict[str, Any], target: WebhookTarget) -> None:
    """Replace the Service of every webhook by the target's URL; the path stays."""
    for hook in document["webhooks"]:
        path = hook["clientConfig"]["service"].get("path", "")
        hook["clientConfig"] = {"url": f"{target.url}{path}", "caBundle": target.ca_bundle}


def _wait_established(api: Any, names: Sequence[str]) -> None:
    deadline = time.monotonic() + 30
    for name in names:
        while not _is_established(api, name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"CustomResourceDefinition {name} is not served after 30 s")
            time.sleep(0.1)


def _is_established(api: Any, name: str) -> bool:
    try:
        status = api.read_custom_resource_definition_status(name, _request_timeout=5).status
    except ApiException:
        return False
    conditions = (status and status.conditions) or []
    return any(c.type == "Established" and c.status == "True" for c in conditions)
