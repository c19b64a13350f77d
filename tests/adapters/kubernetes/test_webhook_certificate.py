"""When the webhook's certificate is renewed, and that the API server trusts it at every moment."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from orderplane.adapters.kubernetes.webhook_certificate import (
    LIFE,
    Issued,
    dns_names,
    is_due,
    issue,
    renew,
    trusted,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SERVICE = {"name": "orderplane-webhook", "namespace": "orderplane-system"}
NAMES = dns_names(SERVICE["name"], SERVICE["namespace"])


def is_trusted(certificate: bytes, bundle: bytes, at: datetime = NOW) -> bool:
    """As a client that verifies the name checks it."""
    store = Store(x509.load_pem_x509_certificates(bundle))
    verifier = PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(NAMES[0]))
    try:
        verifier.verify(x509.load_pem_x509_certificate(certificate), [])
    except VerificationError:
        return False
    return True


@pytest.mark.parametrize(
    ("age", "due"),
    [(timedelta(0), False), (LIFE * 0.66, False), (LIFE * 0.67, True), (LIFE, True)],
)
def test_it_is_due_at_two_thirds_of_its_life(age: timedelta, due: bool) -> None:
    assert is_due(issue(NAMES, NOW).certificate, NAMES, NOW + age) is due


@pytest.mark.parametrize("found", [b"", b"no certificate", issue(["other.svc"], NOW).certificate])
def test_what_cannot_be_used_is_due(found: bytes) -> None:
    assert is_due(found, NAMES, NOW)


def test_its_own_authority_vouches_for_it_and_no_other() -> None:
    one, other = issue(NAMES, NOW), issue(NAMES, NOW)
    assert is_trusted(one.certificate, one.authority)
    assert not is_trusted(one.certificate, other.authority)
    assert not is_trusted(one.certificate, one.authority, NOW + LIFE + timedelta(seconds=1))


def test_a_bundle_has_each_authority_once_and_none_that_has_expired() -> None:
    old, new = issue(NAMES, NOW - LIFE), issue(NAMES, NOW)
    later = NOW + timedelta(hours=1)
    assert trusted([new.authority, old.authority, b"", b"none", new.authority], later) == new.authority
    assert trusted([new.authority + old.authority], NOW - timedelta(hours=1)) == new.authority + old.authority


class Cluster:
    """The two objects, merged as the API server would."""

    def __init__(self, files: dict[str, bytes] | None = None, bundle: bytes | None = None) -> None:
        self.files = files or {}
        self.bundles = dict.fromkeys(("orders.orderplane.dev", "reservations.orderplane.dev"), bundle)
        self.writes: list[str] = []
        self.fails_at = ""

    async def read_path(self, path: str) -> dict[str, Any]:
        if path == "/api/v1/namespaces/orderplane-system/secrets/orderplane-webhook-tls":
            data = {name: base64.b64encode(content).decode() for name, content in self.files.items()}
            # The API server leaves out what is empty.
            return {"metadata": {"resourceVersion": "7"}, **({"data": data} if data else {})}
        hooks: list[dict[str, Any]] = [
            {"name": name, "clientConfig": {"service": SERVICE}} for name in self.bundles
        ]
        for hook in hooks:
            if bundle := self.bundles[hook["name"]]:
                hook["clientConfig"]["caBundle"] = base64.b64encode(bundle).decode()
        return {"metadata": {}, "webhooks": hooks}

    async def apply_path(self, path: str, body: dict[str, Any], *, manager: str) -> None:
        assert manager == "orderplane-webhook-certificate"
        if body["kind"] == self.fails_at:
            raise ConnectionError
        self.writes.append(body["kind"])
        if body["kind"] == "Secret":
            assert body["metadata"]["resourceVersion"] == "7"
            self.files = {name: base64.b64decode(value) for name, value in body["data"].items()}
        else:
            for hook in body["webhooks"]:
                assert hook.keys() == {"name", "clientConfig"}
                self.bundles[hook["name"]] = base64.b64decode(hook["clientConfig"]["caBundle"])

    @property
    def is_trusted(self) -> bool:
        return all(bundle and is_trusted(self.files["tls.crt"], bundle) for bundle in self.bundles.values())


def files_of(issued: Issued) -> dict[str, bytes]:
    return {"tls.crt": issued.certificate, "tls.key": issued.key, "ca.crt": issued.authority}


async def run(cluster: Cluster, now: datetime = NOW) -> str:
    return await renew(cluster, now)  # type: ignore[arg-type]


async def test_the_first_one_is_made_and_the_next_run_does_nothing() -> None:
    cluster = Cluster()
    assert await run(cluster) == "The certificate was renewed."
    assert cluster.is_trusted
    made = dict(cluster.files)
    assert await run(cluster) == "The certificate is not due."
    assert (cluster.files, cluster.writes) == (made, ["MutatingWebhookConfiguration", "Secret"])
    await renew(cluster, NOW, even_if_not_due=True)  # type: ignore[arg-type]
    assert cluster.files != made
    assert cluster.is_trusted


async def test_at_a_renewal_the_last_one_stays_trusted_while_pods_still_serve_it() -> None:
    old = issue(NAMES, NOW - LIFE * 0.7)
    cluster = Cluster(files_of(old), old.authority)
    await run(cluster)
    assert cluster.files["tls.crt"] != old.certificate
    assert cluster.is_trusted
    assert all(bundle and is_trusted(old.certificate, bundle) for bundle in cluster.bundles.values())
    # It is told of the new one before anybody serves it.
    assert cluster.writes == ["MutatingWebhookConfiguration", "Secret"]


@pytest.mark.parametrize("fails_at", ["Secret", "MutatingWebhookConfiguration"])
async def test_what_is_served_is_trusted_wherever_a_run_ends(fails_at: str) -> None:
    old = issue(NAMES, NOW - LIFE * 0.7)
    cluster = Cluster(files_of(old), old.authority)
    cluster.fails_at = fails_at
    with pytest.raises(ConnectionError):
        await run(cluster)
    assert cluster.is_trusted
    cluster.fails_at = ""
    await run(cluster)
    assert cluster.is_trusted


@pytest.mark.parametrize("bundle", [None, issue(NAMES, NOW).authority])
async def test_a_bundle_that_somebody_has_overwritten_is_mended(bundle: bytes | None) -> None:
    present = issue(NAMES, NOW)
    cluster = Cluster(files_of(present), bundle)
    assert "did not trust" in await run(cluster)
    assert cluster.is_trusted
    assert cluster.files == files_of(present)
