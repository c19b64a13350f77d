"""The webhook's certificate where there is no cert-manager.

Each renewal makes an authority of its own, signs one certificate and throws the authority's key away: nobody
can sign another. The API server is told of a new authority before the webhook serves with its certificate,
and goes on trusting the last one, because pods get the files of a Secret a minute or two later.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from orderplane.adapters.kubernetes.client import ApiClient

LIFE = timedelta(days=90)
CONFIGURATION = "orderplane-webhook"
MANAGER = "orderplane-webhook-certificate"
"""The field manager: it owns the certificate and `caBundle`, and nothing else of these objects."""

_CLOCK_SKEW = timedelta(minutes=5)
_CONFIGURATION_PATH = f"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/{CONFIGURATION}"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate, its private key and its authority, in PEM."""

    certificate: bytes
    key: bytes
    authority: bytes


def dns_names(service: str, namespace: str) -> list[str]:
    """The names by which the API server may call the webhook."""
    return [f"{service}.{namespace}.svc", f"{service}.{namespace}.svc.cluster.local"]


def issue(names: Sequence[str], now: datetime) -> Issued:
    """A new authority with one certificate, both valid for `LIFE`."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    # Of two authorities with one name, OpenSSL and Go may take the wrong one.
    authority_name = x509.Name([
        x509.NameAttribute(NameOID.COMMON_NAME, f"orderplane-webhook-{x509.random_serial_number():040x}")
    ])  # fmt: skip
    authority = (
        _builder(authority_name, authority_name, authority_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orderplane-webhook")])
    certificate = (
        _builder(subject, authority_name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    return Issued(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        authority.public_bytes(Encoding.PEM),
    )


def is_due(certificate: bytes, names: Sequence[str], now: datetime) -> bool:
    """Whether two thirds of its life are over, or it cannot be used for these names."""
    try:
        found = x509.load_pem_x509_certificate(certificate)
        of = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return True
    is_for_these = set(names) <= set(of.get_values_for_type(x509.DNSName))
    begins, ends = found.not_valid_before_utc, found.not_valid_after_utc
    return not is_for_these or now >= begins + (ends - begins) * 2 / 3


def trusted(authorities: Sequence[bytes], now: datetime) -> bytes:
    """One bundle of those authorities that have not expired, each once."""
    kept: dict[bytes, None] = {}
    for authority in authorities:
        try:
            found = x509.load_pem_x509_certificates(authority)
        except ValueError:
            continue
        kept |= {each.public_bytes(Encoding.PEM): None for each in found if each.not_valid_after_utc > now}
    return b"".join(kept)


async def renew(api: ApiClient, now: datetime, *, even_if_not_due: bool = False) -> str:
    """Renew the certificate if it is due, and see that the API server trusts it; returns what was done.

    The webhook configuration says for which Service. The certificate is in the Secret with the Service's
    name and `-tls`. Both have to exist. It may be interrupted anywhere, and run again.

    Raises:
        ValueError: the configuration names no Service.
        NotFound: one of them does not exist.
        ApiError: the API server refused it. A Conflict says that somebody else has renewed it meanwhile.
    """
    configuration = await api.read_path(_CONFIGURATION_PATH)
    service = configuration["webhooks"][0]["clientConfig"].get("service")
    if service is None:
        raise ValueError(
            f"the webhook configuration {CONFIGURATION} has a URL and no Service: no certificate is made"
        )
    names, secret_name = dns_names(service["name"], service["namespace"]), f"{service['name']}-tls"
    path = f"/api/v1/namespaces/{service['namespace']}/secrets/{secret_name}"
    secret = await api.read_path(path)
    data = {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}
    known = [
        base64.b64decode(hook["clientConfig"].get("caBundle") or "") for hook in configuration["webhooks"]
    ]
    if not even_if_not_due and not is_due(data.get("tls.crt", b""), names, now):
        present = data.get("ca.crt", b"")
        if all(present in bundle for bundle in known):
            return "The certificate is not due."
        await _trust(api, configuration, trusted([present, *known], now))
        return "The API server did not trust the certificate, and does now."
    issued = issue(names, now)
    await _trust(api, configuration, trusted([issued.authority, data.get("ca.crt", b"")], now))
    files = {"tls.crt": issued.certificate, "tls.key": issued.key, "ca.crt": issued.authority}
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret_name, "resourceVersion": secret["metadata"]["resourceVersion"]},
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
    await api.apply_path(path, body, manager=MANAGER)
    return "The certificate was renewed."


async def _trust(api: ApiClient, configuration: dict[str, Any], bundle: bytes) -> None:
    client = {"caBundle": base64.b64encode(bundle).decode()}
    body = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": CONFIGURATION},
        "webhooks": [{"name": hook["name"], "clientConfig": client} for hook in configuration["webhooks"]],
    }
    await api.apply_path(_CONFIGURATION_PATH, body, manager=MANAGER)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + LIFE)
    )


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
