"""Credentials of one plane: a certificate authority, serving certificates, and the tokens of its users."""

import base64
import ipaddress
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = timedelta(days=365)
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "kubernetes.default.svc", "10.0.0.1")
"""The last two are those of the API server in a cluster."""


class Authority:
    """The certificate authority of one plane. Its files are in `folder`, readable by their owner only."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "orderplane-local")])
        now = datetime.now(UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + _VALID)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        write_private(self.ca, self._certificate.public_bytes(serialization.Encoding.PEM))

    @property
    def ca(self) -> Path:
        """The CA certificate."""
        return self._folder / "ca.crt"

    def serving(self, name: str, *hosts: str) -> tuple[Path, Path]:
        """A certificate for servers on loopback and at `hosts`; returns the paths of certificate and key."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [_general_name(host) for host in (*hosts, *_LOOPBACK)]
        return self._issue(name, subject, ExtendedKeyUsageOID.SERVER_AUTH, names)

    def client(self, name: str, group: str | None = None) -> tuple[Path, Path]:
        """A certificate for a client; returns the paths of certificate and key.

        Args:
            group: What the API server takes for the client's group.
        """
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if group:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        return self._issue(name, x509.Name(attributes), ExtendedKeyUsageOID.CLIENT_AUTH, [x509.DNSName(name)])

    def _issue(
        self,
        name: str,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName],
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + _VALID)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        paths = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        write_private(paths[0], certificate.public_bytes(serialization.Encoding.PEM))
        write_private(paths[1], _pem(key))
        return paths

    def signing_key(self, name: str) -> tuple[Path, Path]:
        """A key pair for service-account tokens; returns the paths of private and public key."""
        key = ec.generate_private_key(ec.SECP256R1())
        private, public = self._folder / f"{name}.key", self._folder / f"{name}.pub"
        write_private(private, _pem(key))
        write_private(
            public,
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
        )
        return private, public


def write_private(path: Path, content: bytes) -> None:
    """Write a file whose mode is 0600 before its content is written."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(content)


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


Identities = Mapping[str, tuple[str, str | None]]
"""Each kubeconfig's name, with the user's name and group."""

IDENTITIES: Identities = {
    "admin": ("admin", "system:masters"),
    "operator": ("orderplane:operator", None),
    "gateway": ("orderplane:gateway", None),
    "webhook": ("orderplane:webhook", None),
    "audit": ("orderplane:audit", None),
    "merchant": ("merchant-demo", "orderplane:merchants"),
    "controller-manager": ("system:kube-controller-manager", None),
}


def draw_tokens(identities: Identities = IDENTITIES) -> dict[str, str]:
    """A random token for each identity."""
    return {identity: secrets.token_urlsafe(32) for identity in identities}


def token_file(tokens: Mapping[str, str], identities: Identities = IDENTITIES) -> str:
    """The API server's token file: token, user, uid and group of each identity.

    Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#static-token-file
    """
    lines = []
    for identity, token in tokens.items():
        user, group = identities[identity]
        lines.append(",".join([token, user, identity, *([group] if group else [])]))
    return "\n".join(lines) + "\n"


def kubeconfig(server: str, ca: bytes, identity: str, token: str) -> bytes:
    """One context, whose namespace is the demo's. It is JSON, which is valid YAML.

    Args:
        ca: The authority of the server's certificate, PEM.
    """
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "orderplane",
        "clusters": [{"name": "orderplane", "cluster": {
            "server": server, "certificate-authority-data": base64.b64encode(ca).decode(),
        }}],
        "contexts": [{"name": "orderplane", "context": {
            "cluster": "orderplane", "user": identity, "namespace": "demo",
        }}],
        "users": [{"name": identity, "user": {"token": token}}],
    }  # fmt: skip
    return json.dumps(document, indent=1).encode()


def admission_configuration(authority: Authority, folder: Path, webhook_url: str) -> Path:
    """The API server's client certificate for calls to a webhook; returns the path of its configuration.

    Source: https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
    (authenticate API servers)
    """
    certificate, key = authority.client("apiserver-to-webhook")
    caller, configuration = folder / "webhook-caller.json", folder / "admission.json"
    user = {"client-certificate": str(certificate), "client-key": str(key)}
    users = [{"name": webhook_url.removeprefix("https://"), "user": user}]
    write_private(caller, json.dumps({"apiVersion": "v1", "kind": "Config", "users": users}).encode())
    group = "apiserver.config.k8s.io/v1"
    webhooks = {"apiVersion": group, "kind": "WebhookAdmissionConfiguration", "kubeConfigFile": str(caller)}
    plugins = [{"name": "MutatingAdmissionWebhook", "configuration": webhooks}]
    document = {"apiVersion": group, "kind": "AdmissionConfiguration", "plugins": plugins}
    write_private(configuration, json.dumps(document).encode())
    return configuration
