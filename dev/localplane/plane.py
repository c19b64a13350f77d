"""A complete Orderplane on one machine: the local plane."""

import asyncio
import base64
import json
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from orderplane.adapters.kubernetes.install import WebhookTarget, install, shipped_manifests
from orderplane.adapters.postgres.migrate import migrate
from orderplane.adapters.webhook_endpoints.secrets import new_key as new_endpoint_key
from orderplane.dev.localplane import components
from orderplane.dev.localplane.components import MODULES, gateways, kind_of, process
from orderplane.dev.localplane.controlplane import Binaries, control_plane_binaries
from orderplane.dev.localplane.credentials import (
    IDENTITIES,
    Authority,
    admission_configuration,
    draw_tokens,
    kubeconfig,
    token_file,
    write_private,
)
from orderplane.dev.localplane.kafka import KafkaCommand, kafka, kafka_program
from orderplane.dev.localplane.paths import project_root
from orderplane.dev.localplane.ports import free_port
from orderplane.dev.localplane.progress import Progress
from orderplane.dev.localplane.supervisor import Supervisor, use_batch_scheduling
from orderplane.dev.localplane.tools import ToolMissing
from orderplane.gateway.identity.keyring import new_key

_PORTS = (
    "etcd", "etcd-peer", "apiserver", "controller-manager", "postgres", "redis", "kafka",
    "kafka-controller",
    *(f"{name}-http" for name in MODULES), *(f"{name}-metrics" for name in MODULES), "mail-smtp",
)  # fmt: skip

_WAREHOUSE = json.dumps(
    {
        "company": "Orderplane demo",
        "street1": "1 Dock Street",
        "city": "Rotterdam",
        "zip": "3011",
        "country": "NL",
        "phone": "0000000000",
    }
)

ALL = tuple(MODULES)
"""Every process of Orderplane, and the sandboxes."""


@dataclass(frozen=True, slots=True)
class PlaneSpec:
    """What a plane consists of.

    Args:
        processes: The processes of Orderplane and the sandboxes that run.
        kafka: True to start a broker, False for none, or bootstrap servers of another.
        dsn: A PostgreSQL to use instead of starting one.
        with_garbage_collection: Run a kube-controller-manager too.
        namespaces: Created if they are missing.
        gateways: Replicas of the gateway, all on one port (SO_REUSEPORT). With more than one there is a
            Redis, in which they count requests together.
        env: More environment variables, by process.
    """

    processes: tuple[str, ...] = ALL
    kafka: bool | str = True
    dsn: str | None = None
    with_garbage_collection: bool = False
    namespaces: tuple[str, ...] = ("demo",)
    gateways: int = 1
    env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Plane:
    """A running plane: its processes, URLs and credentials."""

    def __init__(self, state: Path, ports: Mapping[str, int]) -> None:
        self.state = state
        self.supervisor = Supervisor(state / "logs", self._write_state)
        self.postgres_dsn = ""
        self.kafka_bootstrap = ""
        self.redis_url = ""
        self.kubectl: Path | None = None
        self._ports = ports
        self._keys: dict[str, str] = {}
        self._is_ready = False

    def kubeconfig(self, identity: str) -> Path:
        """The kubeconfig of one of `credentials.IDENTITIES`."""
        return self.state / "kubeconfigs" / f"{identity}.yaml"

    @property
    def signing_keys(self) -> Path:
        """The folder of the keys that sign access tokens."""
        return self.state / "signing-keys"

    def url(self, process_name: str) -> str:
        """The URL of a process."""
        return f"http://127.0.0.1:{self._ports[f'{process_name}-http']}"

    def metrics_url(self, process_name: str) -> str:
        """The URL of the metrics and probes of a process."""
        return f"http://127.0.0.1:{self._ports[f'{process_name}-metrics']}"

    @property
    def webhook_target(self) -> WebhookTarget:
        """Where the API server reaches the webhook of this plane."""
        ca = (self.state / "pki" / "ca.crt").read_bytes()
        return WebhookTarget(self.url("webhook").replace("http:", "https:"), base64.b64encode(ca).decode())

    def env(self, process_name: str) -> dict[str, str]:
        """The environment variables of a process, or of a client as another identity (`audit`, `admin`)."""
        kind = kind_of(process_name)
        identity = kind if kind in IDENTITIES else "operator"
        env = {
            "KUBECONFIG": str(self.kubeconfig(identity)),
            "ORDERPLANE_POSTGRES_DSN": self.postgres_dsn,
            "ORDERPLANE_KAFKA": self.kafka_bootstrap,
            "ORDERPLANE_MERCHANT": "demo",
            "ORDERPLANE_PAYMENTS_URL": self.url("payments"),
            "ORDERPLANE_PAYMENTS_KEY": self._keys["payments"],
            "ORDERPLANE_CARRIER_URL": self.url("carrier"),
            "ORDERPLANE_CARRIER_KEY": self._keys["carrier"],
            "ORDERPLANE_CARRIER_SENDER": _WAREHOUSE,
            "ORDERPLANE_SMTP_PORT": str(self._ports["mail-smtp"]),
            "ORDERPLANE_SMTP_URL": f"smtp://127.0.0.1:{self._ports['mail-smtp']}",
            "ORDERPLANE_MAIL_FROM": "Orderplane demo <orders@shop.example>",
            "ORDERPLANE_MAILBOX_URL": self.url("mail"),
            "ORDERPLANE_MAILBOX_KEY": self._keys["mail"],
            "ORDERPLANE_SMS_URL": self.url("sms"),
            "ORDERPLANE_SMS_KEY": self._keys["sms"],
            "ORDERPLANE_SMS_FROM": "+15005550006",
            "ORDERPLANE_SIGNING_KEYS": str(self.signing_keys),
            "ORDERPLANE_ENDPOINT_KEYS": self._keys["endpoints"],
            # Nothing here sends to the internet; a receiver is on this machine.
            "ORDERPLANE_ENDPOINT_NETWORKS": "127.0.0.0/8, ::1/128",
        }
        if kind == "gateway" and self.redis_url:
            env |= {"ORDERPLANE_HTTP_REUSE_PORT": "true", "ORDERPLANE_REDIS_URL": self.redis_url}
        if kind == "console":
            env |= {"ORDERPLANE_GATEWAY_URL": self.url("gateway")}
        if kind == "webhook":
            pki = self.state / "pki"
            env |= {
                "ORDERPLANE_WEBHOOK_PORT": str(self._ports["webhook-http"]),
                "ORDERPLANE_WEBHOOK_CERT": str(pki / "webhook.crt"),
                "ORDERPLANE_WEBHOOK_KEY": str(pki / "webhook.key"),
                "ORDERPLANE_WEBHOOK_CLIENT_CA": str(pki / "ca.crt"),
            }
        return env

    @classmethod
    @asynccontextmanager
    async def start(cls, state: Path, spec: PlaneSpec, progress: Progress) -> AsyncIterator["Plane"]:
        """Start a plane; the end of the block stops it.

        Sets SCHED_BATCH for this process and its children: see `use_batch_scheduling`.

        Raises:
            ToolMissing, StartFailed: a program is missing or does not start; the message says which.
        """
        use_batch_scheduling()
        await asyncio.to_thread(state.mkdir, parents=True, exist_ok=True, mode=0o700)
        plane = cls(state, _ports(state, spec.gateways))
        # Before the slow steps, so that `dev down` can stop a plane that still starts.
        await asyncio.to_thread(plane._write_state)
        async with plane.supervisor:
            await plane._start(spec, progress)
            yield plane

    async def _start(self, spec: PlaneSpec, progress: Progress) -> None:
        self._keys = _keys(self.state)
        if not self.signing_keys.exists():
            new_key(self.signing_keys)
        names = ["etcd", "kube-apiserver", "kubectl"]
        if spec.with_garbage_collection:
            names.append("kube-controller-manager")
        binaries = await control_plane_binaries(progress, tuple(names))
        self.kubectl = binaries["kubectl"]
        broker = await self._find_kafka(spec.kafka, progress)
        with progress.step("Starting etcd, kube-apiserver, PostgreSQL and Kafka") as step:
            authority = Authority(self.state / "pki")
            authority.serving("webhook")
            await _all_of(
                self._start_postgres(spec.dsn),
                self._start_control_plane(binaries, authority, spec),
                self._start_kafka(broker),
                self._start_redis(spec.gateways),
            )
            step.update("installing the resources and the database schema")
            await self._install(spec)
        if spec.processes:
            processes = _with_replicas(spec)
            with progress.step(f"Starting {', '.join(processes)}"):
                # The notifier starts last: a consumer that joins its group while topics are being created can
                # wait most of a minute for its first assignment.
                for names in _parted(processes, "notifier"):
                    await _all_of(
                        *(self.start_process(name, spec.env.get(kind_of(name), {})) for name in names)
                    )
        self._is_ready = True
        self._write_state()

    async def start_process(self, name: str, more_env: Mapping[str, str] | None = None) -> None:
        """Start one process of Orderplane, a replica of the gateway or a sandbox; wait until it is ready."""
        component = process(
            name,
            {**self.env(name), **(more_env or {})},
            http_port=self._ports[f"{kind_of(name)}-http"],
            metrics_port=self._ports[f"{name}-metrics"],
            state=self.state,
        )
        await self.supervisor.start(component)

    def merchant_access(self, namespace: str) -> Path:
        """A file that lets the merchant's staff into a namespace, as `docs/examples/merchant-access.yaml`."""
        example = project_root() / "docs" / "examples" / "merchant-access.yaml"
        binding = self.state / f"merchant-access-{namespace}.yaml"
        binding.write_text(
            example.read_text(encoding="utf-8").replace("namespace: demo", f"namespace: {namespace}"),
            encoding="utf-8",
        )
        return binding

    async def _find_kafka(self, spec: bool | str, progress: Progress) -> KafkaCommand | None:
        if isinstance(spec, str):
            self.kafka_bootstrap = spec
            return None
        if not spec:
            return None
        try:
            program = await kafka_program(progress)
        except ToolMissing as problem:
            progress.note(f"No Kafka here, events will wait in the outbox: {problem}")
            return None
        self.kafka_bootstrap = f"127.0.0.1:{self._ports['kafka']}"
        return program

    async def _start_kafka(self, program: KafkaCommand | None) -> None:
        if program is not None:
            ports = self._ports["kafka"], self._ports["kafka-controller"]
            await self.supervisor.start(await asyncio.to_thread(kafka, program, self.state, *ports))

    async def _start_redis(self, gateways: int) -> None:
        if gateways > 1:
            component, self.redis_url = components.redis(self.state, self._ports["redis"])
            await self.supervisor.start(component)

    async def _start_postgres(self, dsn: str | None) -> None:
        if dsn:
            self.postgres_dsn = dsn
            return
        component, self.postgres_dsn = await asyncio.to_thread(
            components.postgres, self.state, self._ports["postgres"]
        )
        await self.supervisor.start(component)

    async def _start_control_plane(self, binaries: Binaries, authority: Authority, spec: PlaneSpec) -> None:
        ports = self._ports
        await self.supervisor.start(components.etcd(binaries, self.state, ports["etcd"], ports["etcd-peer"]))
        tokens, known = draw_tokens(), self.state / "tokens.csv"
        write_private(known, token_file(tokens).encode())
        for identity, token in tokens.items():
            self._write_kubeconfig(authority.ca, identity, token)
        await self.supervisor.start(
            components.kube_apiserver(
                binaries,
                self.state,
                authority,
                known,
                admission_configuration(authority, self.state, self.webhook_target.url),
                ports["apiserver"],
                ports["etcd"],
            )
        )
        if spec.with_garbage_collection:
            kubeconfig = self.kubeconfig("controller-manager")
            await self.supervisor.start(
                components.controller_manager(binaries, kubeconfig, ports["controller-manager"], authority)
            )

    async def _install(self, spec: PlaneSpec) -> None:
        await install(
            [*shipped_manifests(with_policies=True), *map(self.merchant_access, spec.namespaces)],
            kubeconfig=self.kubeconfig("admin"),
            webhook=self.webhook_target,
            namespaces=spec.namespaces,
        )
        await migrate(self.postgres_dsn)

    def _write_kubeconfig(self, ca: Path, identity: str, token: str) -> None:
        path = self.kubeconfig(identity)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        server = f"https://127.0.0.1:{self._ports['apiserver']}"
        write_private(path, kubeconfig(server, ca.read_bytes(), identity, token))

    def _write_state(self) -> None:
        pids = {name: self.supervisor.pid(name) for name in self.supervisor.names}
        document = {
            "host": _identity_of(os.getpid()),
            "components": {name: _identity_of(pid) for name, pid in pids.items() if pid},
            "logs": str(self.state / "logs"),
            "kubectl": str(self.kubectl) if self.kubectl else None,
            "kafka": self.kafka_bootstrap,
            "gateway": self.url("gateway"),
            "console": f"{self.url('console')}/console/",
            "is_ready": self._is_ready,
            "env": self.env("admin") if self._is_ready else {},
        }
        unfinished = self.state / ".state.json"
        write_private(unfinished, json.dumps(document).encode())
        unfinished.rename(self.state / "state.json")


def _with_replicas(spec: PlaneSpec) -> list[str]:
    copies = {"gateway": gateways(spec.gateways)}
    return [copy for name in spec.processes for copy in copies.get(name, (name,))]


def _parted(names: Sequence[str], last: str) -> tuple[list[str], list[str]]:
    return [name for name in names if name != last], [name for name in names if name == last]


async def _all_of(*starts: Awaitable[None]) -> None:
    """Start several at once; an error is raised only after all have succeeded or failed."""
    for problem in await asyncio.gather(*starts, return_exceptions=True):
        if problem is not None:
            raise problem


def remove(state: Path) -> None:
    """Remove the files of a plane that has stopped."""
    components.remove_postgres(state)
    shutil.rmtree(state, ignore_errors=True)


def _identity_of(pid: int) -> dict[str, float]:
    """The pid with the start time of its process: the system reuses pids."""
    try:
        return {"pid": pid, "created": psutil.Process(pid).create_time()}
    except psutil.Error:
        return {"pid": pid, "created": 0.0}


def _ports(state: Path, replicas: int) -> dict[str, int]:
    """Free ports, chosen once, so that a restarted process keeps its address."""
    names = {*_PORTS, *(f"{name}-metrics" for name in gateways(replicas))}
    file = state / "ports.json"
    if file.exists():
        known: dict[str, int] = json.loads(file.read_text())
        if set(known) >= names:
            return known
    ports = {name: free_port() for name in sorted(names)}
    file.write_text(json.dumps(ports))
    return ports


def _keys(state: Path) -> dict[str, str]:
    """Random API keys of the sandboxes, and the key of the secrets of webhook endpoints."""
    file = state / "keys.json"
    keys = {
        "payments": f"sk_test_{secrets.token_hex(16)}",
        "carrier": f"EZTK{secrets.token_hex(16)}",
        "mail": f"reader:{secrets.token_hex(16)}",
        "sms": f"AC{secrets.token_hex(16)}:{secrets.token_hex(16)}",
        "endpoints": new_endpoint_key(),
    }
    known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    if known.keys() != keys.keys():
        known = keys | known  # a plane of an older version lacks some
        write_private(file, json.dumps(known).encode())
    return known
