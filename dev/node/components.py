"""The programs of a node, in the order in which they are started."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp

from orderplane.dev.localplane.components import answers, etcd
from orderplane.dev.localplane.controlplane import Binaries
from orderplane.dev.localplane.credentials import (
    Authority,
    Identities,
    draw_tokens,
    kubeconfig,
    token_file,
    write_private,
)
from orderplane.dev.localplane.supervisor import Component
from orderplane.dev.node import configuration
from orderplane.dev.node.images import PAUSE
from orderplane.dev.node.network import (
    ADDRESS,
    DOMAIN,
    NAMESERVER,
    POD_RANGE,
    SERVICE_RANGE,
)
from orderplane.dev.node.programs import Programs

NAME = "node"
METRICS_PORT = 4443
SERVER = f"https://{ADDRESS}:6443"

IDENTITIES: Identities = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "kube-proxy": ("system:kube-proxy", None),
    "coredns": ("system:coredns", None),
    "metrics-server": ("system:metrics-server", None),
    "kubelet": (f"system:node:{NAME}", "system:nodes"),
}


def kubeconfig_of(state: Path, identity: str) -> Path:
    """The kubeconfig of one of `IDENTITIES`."""
    return state / "kubeconfigs" / f"{identity}.yaml"


def control_plane(programs: Programs, state: Path) -> Iterator[Component]:
    """etcd, the API server, the controllers and the scheduler; writes their credentials first."""
    authority, front_proxy = Authority(state / "pki"), Authority(state / "pki" / "front-proxy")
    tokens = draw_tokens(IDENTITIES)
    (state / "kubeconfigs").mkdir(mode=0o700)
    write_private(state / "tokens.csv", token_file(tokens, IDENTITIES).encode())
    for identity, token in tokens.items():
        document = kubeconfig(SERVER, authority.ca.read_bytes(), identity, token)
        write_private(kubeconfig_of(state, identity), document)
    yield etcd(Binaries(programs["etcd"].parent), state, 2379, 2380)
    authority.serving("kubelet", ADDRESS, NAME)
    authority.serving("metrics-server", "metrics-server.kube-system.svc")
    signing, signed = authority.signing_key("service-accounts")
    yield _kube_apiserver(programs, state, authority, front_proxy, signing, signed)
    yield _kube_controller_manager(programs, state, authority, signing)
    own = kubeconfig_of(state, "scheduler")
    scheduler = (
        str(programs["kube-scheduler"]), f"--kubeconfig={own}", f"--authentication-kubeconfig={own}",
        f"--authorization-kubeconfig={own}", "--leader-elect=false", "--bind-address=127.0.0.1",
    )  # fmt: skip
    yield Component("kube-scheduler", scheduler, answers("https://127.0.0.1:10259/healthz", _unverified()))


def _kube_apiserver(
    programs: Programs, state: Path, authority: Authority, front_proxy: Authority, signing: Path, signed: Path
) -> Component:
    hosts = (
        ADDRESS, "kubernetes", "kubernetes.default",
        f"kubernetes.default.svc.{DOMAIN}",
    )  # fmt: skip
    certificate, key = authority.serving("apiserver", *hosts)
    to_kubelet, to_kubelet_key = authority.client("apiserver-to-kubelet", "system:masters")
    proxy, proxy_key = front_proxy.client("front-proxy")
    command = (
        str(programs["kube-apiserver"]), "--etcd-servers=http://127.0.0.1:2379",
        f"--bind-address={ADDRESS}", "--secure-port=6443", f"--advertise-address={ADDRESS}",
        f"--service-cluster-ip-range={SERVICE_RANGE}", f"--cert-dir={state / 'pki'}",
        f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}",
        f"--client-ca-file={authority.ca}", f"--token-auth-file={state / 'tokens.csv'}",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={signed}", f"--service-account-signing-key-file={signing}",
        f"--kubelet-certificate-authority={authority.ca}", f"--kubelet-client-certificate={to_kubelet}",
        f"--kubelet-client-key={to_kubelet_key}", "--kubelet-preferred-address-types=InternalIP",
        # For aggregated APIs, such as metrics.
        f"--requestheader-client-ca-file={front_proxy.ca}", "--requestheader-allowed-names=front-proxy",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User", f"--proxy-client-cert-file={proxy}",
        f"--proxy-client-key-file={proxy_key}", "--enable-aggregator-routing=true",
    )  # fmt: skip
    tls = ssl.create_default_context(cafile=str(authority.ca))
    return Component("kube-apiserver", command, answers(f"{SERVER}/readyz", tls), start_timeout=120)


def _kube_controller_manager(
    programs: Programs, state: Path, authority: Authority, signing: Path
) -> Component:
    own = kubeconfig_of(state, "controller-manager")
    command = (
        str(programs["kube-controller-manager"]), f"--kubeconfig={own}",
        f"--authentication-kubeconfig={own}", f"--authorization-kubeconfig={own}",
        "--leader-elect=false", "--bind-address=127.0.0.1", "--use-service-account-credentials=true",
        f"--service-account-private-key-file={signing}", f"--root-ca-file={authority.ca}",
        f"--cluster-cidr={POD_RANGE}",
        # A person who watches one node does not want to wait for minutes.
        "--horizontal-pod-autoscaler-sync-period=5s",
        "--horizontal-pod-autoscaler-initial-readiness-delay=5s",
        "--horizontal-pod-autoscaler-cpu-initialization-period=10s",
    )  # fmt: skip
    ready = answers("https://127.0.0.1:10257/healthz", _unverified())
    return Component("kube-controller-manager", command, ready)


def containerd(programs: Programs, state: Path) -> Component:
    """The container runtime."""
    (state / "cni").mkdir(exist_ok=True)
    (state / "cni" / "pods.conflist").write_text(configuration.cni(state))
    config = state / "containerd.toml"
    config.write_text(configuration.containerd(state, programs.cni, PAUSE))
    command = (str(programs["containerd"]), f"--config={config}")
    return Component("containerd", command, _succeeds(str(programs["ctr"]), "version"))


def agents(programs: Programs, state: Path) -> Iterator[Component]:
    """CoreDNS, the kubelet, kube-proxy, and metrics-server, which asks it for what autoscalers need."""
    authority_file = state / "pki" / "ca.crt"
    (state / "resolv.conf").write_text(NAMESERVER)
    files = {
        "kubelet": configuration.kubelet(
            state, authority_file, state / "pki" / "kubelet.crt", state / "pki" / "kubelet.key"
        ),
        "kube-proxy": configuration.kube_proxy(kubeconfig_of(state, "kube-proxy")),
        "coredns": configuration.coredns(kubeconfig_of(state, "coredns")),
    }
    for name, text in files.items():
        (state / f"{name}.config").write_text(text)
    yield Component(
        "coredns",
        (str(programs["coredns"]), f"-conf={state / 'coredns.config'}"),
        answers(f"http://{ADDRESS}:8181/ready"),
    )
    yield Component(
        "kubelet",
        (
            str(programs["kubelet"]), f"--config={state / 'kubelet.config'}",
            f"--kubeconfig={kubeconfig_of(state, 'kubelet')}", f"--node-ip={ADDRESS}",
            f"--hostname-override={NAME}", f"--root-dir={state / 'kubelet'}", f"--cert-dir={state / 'pki'}",
        ),
        _is_node_ready(state),
        start_timeout=180,
    )  # fmt: skip
    # It asks for its Node, every thirty seconds.
    yield Component(
        "kube-proxy",
        (
            str(programs["kube-proxy"]), f"--config={state / 'kube-proxy.config'}",
            f"--hostname-override={NAME}",
        ),
        answers("http://127.0.0.1:10256/livez"),
    )  # fmt: skip
    yield _metrics_server(programs, state)


def _metrics_server(programs: Programs, state: Path) -> Component:
    own = kubeconfig_of(state, "metrics-server")
    command = (
        str(programs["metrics-server"]), f"--kubeconfig={own}", f"--authentication-kubeconfig={own}",
        f"--authorization-kubeconfig={own}", f"--bind-address={ADDRESS}", f"--secure-port={METRICS_PORT}",
        f"--tls-cert-file={state / 'pki' / 'metrics-server.crt'}",
        f"--tls-private-key-file={state / 'pki' / 'metrics-server.key'}",
        f"--kubelet-certificate-authority={state / 'pki' / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        # The time-out has to be shorter than the resolution, else it ends at once.
        "--metric-resolution=15s", "--kubelet-request-timeout=8s",
    )  # fmt: skip
    ready = answers(f"https://{ADDRESS}:{METRICS_PORT}/livez", _unverified())
    return Component("metrics-server", command, ready)


def _is_node_ready(state: Path) -> Callable[[], Awaitable[bool]]:
    admin = json.loads(kubeconfig_of(state, "admin").read_text())
    headers = {"Authorization": f"Bearer {admin['users'][0]['user']['token']}"}
    tls = ssl.create_default_context(cafile=str(state / "pki" / "ca.crt"))

    async def ask() -> bool:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2), headers=headers) as session,
            session.get(f"{SERVER}/api/v1/nodes/{NAME}", ssl=tls) as response,
        ):
            if response.status != 200:
                return False
            node = await response.json()
        conditions = node.get("status", {}).get("conditions", ())
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    return ask


def _succeeds(*command: str) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        return await process.wait() == 0

    return ask


def _unverified() -> ssl.SSLContext:
    """For servers on loopback that sign their own certificates."""
    tls = ssl.create_default_context()
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return tls
