"""Objects that an older installation has admitted: after the upgrade they can be handled, and let go.

The older CRDs and policies are made of today's, without the rules that came later.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.kubernetes.install import install, shipped_manifests
from orderplane.crds.api_errors import Forbidden, Invalid
from orderplane.crds.meta import Kind
from orderplane.dev.localplane.plane import Plane

from ..support.plane import make_namespace
from .conftest import ADDRESS, child_body, order_body
from .handling import PRESETS, handle

pytestmark = pytest.mark.integration

As = Callable[[str], ApiClient]
Json = dict[str, Any]

TIMES = (
    "2030-01-01t00:00:00z", "2030-01-01T00:00:00+05:30", "2030-01-01T00:00:00.123456789Z",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59",
)  # fmt: skip
LINES = (" ", "\u200b", "Ada\u202eelpmaxE", "Ada\u0007", "\ud7ff\ufffd")


def older(document: Json) -> Json:
    """The CRD or policy as it was."""
    name = document["metadata"]["name"]
    if name == "orderplane-presets" and "validations" in document["spec"]:
        document["spec"]["validations"] = [
            rule
            for rule in document["spec"]["validations"]
            if "at most" not in rule.get("message", "")
            and "the only finalizer" not in rule.get("messageExpression", "")
        ]
    elif name == "orderplane-new-orders" and "validations" in document["spec"]:
        document["spec"]["validations"] = [
            rule for rule in document["spec"]["validations"] if "spec.address" not in rule["message"]
        ]
    elif document["kind"] == "CustomResourceDefinition":
        spec = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"][
            "properties"
        ]
        if name.startswith("reservations"):
            spec["expiresAt"] = {"type": "string", "format": "date-time"}
        if name.startswith("orders"):
            spec["address"]["properties"]["country"]["pattern"] = "^[A-Z]{2}$"
    return document


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """The API server takes CRDs and policies over a moment after they were written."""
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.1)


class Older:
    """The objects of the older installation, by what is odd about them."""

    def __init__(self, as_: As, namespace: str) -> None:
        self.as_ = as_
        self.namespace = namespace
        self.names: dict[str, tuple[Kind, str]] = {}

    async def add(self, what: str, kind: Kind, body: Json) -> None:
        made: list[Json] = []

        async def is_made() -> bool:
            try:
                author = self.as_("gateway" if kind is Kind.ORDER else "operator")
                made.append(await author.create(kind, self.namespace, body))
            except Invalid:
                return False
            return True

        await until(is_made)
        self.names[what] = kind, made[0]["metadata"]["name"]


def zombie(kind: Kind, body: Json) -> Json:
    body["metadata"] = {
        **body["metadata"],
        "finalizers": [*body["metadata"]["finalizers"], f"orderplane.dev/zombie-of-{kind.value.lower()}"],
    }
    return body


ZOMBIES = {f"zombie of {kind}": kind for kind in Kind}
ODD = (
    *(f"expiresAt={time}" for time in TIMES),
    *(f"city={line!a}" for line in LINES),
    "country=ZZ",
    "100 finalizers",
    "100 annotations",
    *ZOMBIES,
)


@pytest.fixture(scope="module")
async def older_objects(
    plane: Plane, as_: As, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Older]:
    folder = tmp_path_factory.mktemp("older")
    files: list[Path] = []
    for shipped in shipped_manifests(with_policies=True):
        documents = [older(document) for document in yaml.safe_load_all(shipped.read_text(encoding="utf-8"))]
        files.append(folder / shipped.name)
        files[-1].write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    namespace = await make_namespace(plane)
    found = Older(as_, namespace)
    admin = plane.kubeconfig("admin")
    target = plane.webhook_target
    try:
        await install(files, kubeconfig=admin, webhook=target)
        for time in TIMES:
            await found.add(
                f"expiresAt={time}", Kind.RESERVATION, child_body(Kind.RESERVATION, namespace, expiresAt=time)
            )
        for line in LINES:
            body = order_body(namespace, address={**ADDRESS, "city": line})
            await found.add(f"city={line!a}", Kind.ORDER, body)
        await found.add("country=ZZ", Kind.ORDER, order_body(namespace, address={**ADDRESS, "country": "ZZ"}))
        body = order_body(namespace)
        body["metadata"]["finalizers"] += [f"example.org/{number}" for number in range(99)]
        await found.add("100 finalizers", Kind.ORDER, body)
        body = order_body(namespace)
        body["metadata"]["annotations"] = {f"a{number}": "y" * 2_000 for number in range(100)}
        await found.add("100 annotations", Kind.ORDER, body)
        for what, kind in ZOMBIES.items():
            body = order_body(namespace) if kind is Kind.ORDER else child_body(kind, namespace)
            await found.add(what, kind, zombie(kind, body))
            body["metadata"]["name"] += "-2"
            await found.add(f"another {what}", kind, body)
    finally:
        await install(shipped_manifests(with_policies=True), kubeconfig=admin, webhook=target)

    async def is_upgraded() -> bool:
        probes = (
            (Kind.ORDER, zombie(Kind.ORDER, order_body(namespace))),
            (Kind.ORDER, order_body(namespace, address={**ADDRESS, "country": "ZZ"})),
            (Kind.RESERVATION, child_body(Kind.RESERVATION, namespace, expiresAt=TIMES[0])),
        )
        for kind, body in probes:
            try:
                await as_("gateway" if kind is Kind.ORDER else "operator").create(kind, namespace, body)
            except Invalid:
                continue
            return False
        return True

    await until(is_upgraded)
    yield found


@pytest.mark.parametrize("what", ODD)
async def test_the_operator_handles_what_was_stored_before(older_objects: Older, what: str) -> None:
    kind, name = older_objects.names[what]
    if what in ("country=ZZ", "100 annotations"):
        merchant = older_objects.as_("merchant")
        patch = {"spec": {"cancel": True, "ttlSecondsAfterFinished": 60}}
        await merchant.merge_patch(kind, older_objects.namespace, name, patch)
    await handle(older_objects.as_, kind, older_objects.namespace, name)


@pytest.mark.parametrize(("kind", "identity"), [(Kind.ORDER, "merchant"), (Kind.PAYMENT, "admin")])
async def test_a_finalizer_that_nobody_knows_is_taken_off_by_whoever_may_write(
    older_objects: Older, kind: Kind, identity: str
) -> None:
    writer, namespace = older_objects.as_(identity), older_objects.namespace
    name = older_objects.names[f"another zombie of {kind}"][1]
    with pytest.raises(Forbidden, match="only the operator takes off the finalizer"):
        await writer.merge_patch(kind, namespace, name, {"metadata": {"finalizers": None}})
    patch = {"metadata": {"finalizers": [PRESETS[kind]]}}
    changed = await writer.merge_patch(kind, namespace, name, patch)
    assert changed["metadata"]["finalizers"] == [PRESETS[kind]]
