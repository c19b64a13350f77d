"""The product in a cluster, as its administrator sees it."""

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes import client, config

from orderplane.dev.localplane.progress import Step

NAMESPACE = "orderplane-system"
COMPONENTS = ("gateway", "console", "operator", "webhook", "relay", "notifier", "deliverer")
GATEWAY = f"http://orderplane-gateway.{NAMESPACE}.svc"

_SELECTOR = "app.kubernetes.io/name=orderplane"
_SECONDS = 20


class NotReady(Exception):  # noqa: N818
    """The cluster did not come to a state in time; the message says what it is in."""


class Cluster:
    """The cluster of KUBECONFIG, with kustomize/overlays/local in it."""

    def __init__(self) -> None:
        api = config.new_client_from_config()  # type: ignore[no-untyped-call]
        # Each field of each answer may be None for the type checker.
        self._core: Any = client.CoreV1Api(api)
        self._apps: Any = client.AppsV1Api(api)
        self._batch: Any = client.BatchV1Api(api)

    def settings(self) -> dict[str, str]:
        """The settings of the audit: addresses from the ConfigMap, keys from the Secret."""
        settings = self._core.read_namespaced_config_map(
            "orderplane", NAMESPACE, _request_timeout=_SECONDS
        ).data
        secret = self._core.read_namespaced_secret(
            "orderplane-audit", NAMESPACE, _request_timeout=_SECONDS
        ).data
        return {**settings, **{name: base64.b64decode(value).decode() for name, value in secret.items()}}

    def pods(self, component: str | None = None) -> list[Any]:
        """The pods of a component, or of the whole product."""
        selector = f"{_SELECTOR},app.kubernetes.io/component={component}" if component else _SELECTOR
        found = self._core.list_namespaced_pod(NAMESPACE, label_selector=selector, _request_timeout=_SECONDS)
        return list(found.items)

    def kill(self, pod: str) -> None:
        """End a pod at once, as when its node dies."""
        self._core.delete_namespaced_pod(pod, NAMESPACE, grace_period_seconds=0, _request_timeout=_SECONDS)

    def restart(self, component: str) -> None:
        """Replace the pods of a component one by one, as `kubectl rollout restart` does."""
        now = {"kubectl.kubernetes.io/restartedAt": datetime.now(UTC).isoformat()}
        body = {"spec": {"template": {"metadata": {"annotations": now}}}}
        self._apps.patch_namespaced_deployment(
            f"orderplane-{component}", NAMESPACE, body, _request_timeout=_SECONDS
        )

    def unready(self) -> list[str]:
        """What is not as its manifest wants it to be."""
        deployments = self._apps.list_namespaced_deployment(NAMESPACE, _request_timeout=_SECONDS).items
        sets = self._apps.list_namespaced_stateful_set(NAMESPACE, _request_timeout=_SECONDS).items
        products = self._job_status("orderplane-products")
        return [
            *(each.metadata.name for each in deployments if not is_rolled_out(each)),
            *(each.metadata.name for each in sets if not each.status.ready_replicas),
            *(() if products.succeeded else ("orderplane-products",)),
        ]

    def deployment(self, component: str) -> Any:
        """The Deployment of a component."""
        return self._apps.read_namespaced_deployment(
            f"orderplane-{component}", NAMESPACE, _request_timeout=_SECONDS
        )

    def replicas(self, component: str) -> int:
        """How many pods of a component are ready."""
        return int(self.deployment(component).status.ready_replicas or 0)

    async def wait(self, what: str, is_so: Callable[[], bool], seconds: float, step: Step) -> None:
        """Ask until `is_so`; raises NotReady after `seconds`."""
        deadline = time.monotonic() + seconds
        while not await asyncio.to_thread(is_so):
            if time.monotonic() > deadline:
                raise NotReady(
                    f"Not {what} after {seconds:.0f} s: {', '.join(self.unready()) or 'all is up'}."
                )
            step.update(what)
            await asyncio.sleep(0.5)

    async def audit(self, seconds: float = 180.0) -> dict[str, Any]:
        """Run the audit in the cluster, now; returns its verdict as JSON."""
        name = f"orderplane-audit-{int(time.time())}"
        await asyncio.to_thread(self._start_audit, name)
        deadline = time.monotonic() + seconds
        while not (status := await asyncio.to_thread(self._job_status, name)).completion_time:
            if status.failed:
                break
            if time.monotonic() > deadline:
                raise NotReady(f"The Job {name} has not ended after {seconds:.0f} s.")
            await asyncio.sleep(0.5)
        log = await asyncio.to_thread(self._log_of_job, name)
        await asyncio.to_thread(
            self._batch.delete_namespaced_job, name, NAMESPACE, propagation_policy="Background"
        )
        try:
            verdict: dict[str, Any] = json.loads(log[log.index("{") :])
        except ValueError:
            raise NotReady(f"The Job {name} failed: {log}") from None
        return verdict

    def _start_audit(self, name: str) -> None:
        found = self._batch.read_namespaced_cron_job("orderplane-audit", NAMESPACE, _request_timeout=_SECONDS)
        job = client.V1Job(metadata=client.V1ObjectMeta(name=name), spec=found.spec.job_template.spec)
        self._batch.create_namespaced_job(NAMESPACE, job, _request_timeout=_SECONDS)

    def _job_status(self, name: str) -> Any:
        return self._batch.read_namespaced_job(name, NAMESPACE, _request_timeout=_SECONDS).status

    def _log_of_job(self, name: str) -> str:
        [pod] = self._core.list_namespaced_pod(
            NAMESPACE, label_selector=f"job-name={name}", _request_timeout=_SECONDS
        ).items
        return str(
            self._core.read_namespaced_pod_log(pod.metadata.name, NAMESPACE, _request_timeout=_SECONDS)
        )


def is_rolled_out(deployment: Any) -> bool:
    """Whether all of its pods are of the newest template, and ready; as `kubectl rollout status` decides."""
    status, wanted = deployment.status, deployment.spec.replicas
    return bool(
        (status.observed_generation or 0) >= deployment.metadata.generation
        and (status.updated_replicas or 0) == wanted
        and (status.replicas or 0) == wanted
        and (status.available_replicas or 0) == wanted
    )


def apply(overlay: Path) -> str:
    """Apply an overlay twice; returns what the second time has changed, which is nothing.

    Raises:
        NotReady: the API server refused it; the message says why.
    """
    versions = []
    for _ in range(2):
        applied = json.loads(kubectl("apply", "--server-side", "-k", str(overlay), "-o", "json"))
        versions.append(
            {
                f"{each['kind']}/{each['metadata']['name']}": each["metadata"].get("generation")
                for each in applied["items"]
            }
        )
    return ", ".join(name for name, version in versions[1].items() if versions[0].get(name) != version)


def kubectl(*words: str, stdin: str = "") -> str:
    """What `kubectl` answers. For what it does by itself: kustomize, and the order of evictions.

    Raises:
        NotReady: it failed; the message says why.
    """
    done = subprocess.run(
        ["kubectl", *words], input=stdin, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode != 0:
        raise NotReady(done.stderr.strip())
    return done.stdout
