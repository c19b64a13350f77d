"""The overlays as people apply them: `kubectl kustomize`, and server-side apply on a real API server."""

import asyncio
import base64
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.adapters.settings import SECRETS_DIR, variables_of
from orderplane.console.main import DRAIN_SECONDS as CONSOLE_DRAIN
from orderplane.dev.localplane.foreign_crds import foreign_crds
from orderplane.dev.localplane.plane import Plane
from orderplane.dev.localplane.progress import ConsoleProgress
from orderplane.dev.settings_page import PROCESSES as CLASSES
from orderplane.gateway.main import DRAIN_SECONDS as GATEWAY_DRAIN
from orderplane.operator.main import DRAIN_SECONDS as OPERATOR_DRAIN
from orderplane.workers.deliverer.deliverer import DRAIN_SECONDS as DELIVERER_DRAIN
from orderplane.workers.notifier.dispatcher import DRAIN_SECONDS as NOTIFIER_DRAIN
from orderplane.workers.relay.relay import DRAIN_SECONDS as RELAY_DRAIN

from ..cli.terminal import orderplane
from ..support.local_overlay import copy_with_secrets
from ..support.plane import bare_plane
from . import rights

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2] / "kustomize"
PROCESSES = {"gateway", "console", "operator", "webhook", "relay", "notifier", "deliverer"}

DEMO = {"postgres", "kafka", "sandbox", "products"}
"""What only overlays/local has besides."""

Json = dict[str, Any]


@pytest.fixture(scope="module", params=["base", "overlays/production", "overlays/local"])
def overlay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path from `ROOT`. The last one is that of a copy with secrets: a checkout has none."""
    if request.param != "overlays/local":
        return str(request.param)
    return str(copy_with_secrets(tmp_path_factory.mktemp("local")))


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plane]:
    """A plane of its own with the CRDs of other projects, and without the address of the plane's webhook: the
    overlays name a Service."""
    crds = [word for path in await foreign_crds(ConsoleProgress()) for word in ("-f", str(path))]
    async with bare_plane(tmp_path_factory.mktemp("kustomize")) as plane:
        await kubectl(plane, "delete", "mutatingwebhookconfiguration", "orderplane-webhook")
        # Each test applies some of it, in any order.
        await kubectl(plane, "create", "namespace", "orderplane-system")
        await kubectl(plane, "apply", "--server-side", *crds)
        await kubectl(plane, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield plane


async def kubectl(plane: Plane, *words: str, stdin: str | None = None) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        [str(plane.kubectl), "--kubeconfig", str(plane.kubeconfig("admin")), *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def rendered(plane: Plane, overlay: str) -> list[Json]:
    return list(yaml.safe_load_all(await kubectl(plane, "kustomize", str(ROOT / overlay))))


async def remove_jobs(plane: Plane) -> None:
    """Those of the overlay before: a Job cannot be changed, and no controller removes it here."""
    await kubectl(plane, "delete", "jobs", "--all", "--namespace", "orderplane-system")


async def applied(plane: Plane, documents: list[Json]) -> list[Json]:
    manifest = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    apply = ("apply", "--server-side", "--force-conflicts", "-o", "json", "-f", "-")
    items: list[Json] = json.loads(await kubectl(plane, *apply, stdin=manifest))["items"]
    return items


def overlay_with(folder: Path, *components: str) -> str:
    """The base with components, as somebody's own overlay; a path from `ROOT`."""
    root = os.path.relpath(ROOT, folder)
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": "orderplane-system", "resources": [f"{root}/base"],
        "components": [f"{root}/components/{component}" for component in components],
    }  # fmt: skip
    (folder / "kustomization.yaml").write_text(json.dumps(overlay))
    return str(folder)


def pods(documents: list[Json], *kinds: str) -> Iterator[tuple[str, Json]]:
    for document in documents:
        if document["kind"] in kinds:
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


async def test_the_api_server_takes_it_and_a_second_apply_changes_nothing(
    cluster: Plane, overlay: str
) -> None:
    documents = await rendered(cluster, overlay)
    await remove_jobs(cluster)
    first, second = await applied(cluster, documents), await applied(cluster, documents)
    assert len(first) == len(documents)
    assert [each["metadata"]["resourceVersion"] for each in first] == [
        each["metadata"]["resourceVersion"] for each in second
    ]


async def test_pods_meet_the_restricted_standard_and_have_bounds(cluster: Plane, overlay: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    documents = await rendered(cluster, overlay)
    serving = dict(pods(documents, "Deployment"))
    serving |= dict(pods(documents, "StatefulSet"))
    jobs = dict(pods(documents, "Job"))
    of_demo = {f"orderplane-{name}" for name in DEMO} if overlay.endswith("local") else set()
    assert set(serving) | set(jobs) == {f"orderplane-{name}" for name in (*PROCESSES, "migrate")} | of_demo
    for spec in serving.values():
        assert {"readinessProbe", "livenessProbe"} <= set(spec["containers"][0])
    crons = (each["spec"]["jobTemplate"]["spec"] for each in documents if each["kind"] == "CronJob")
    others = [*jobs.values(), *(each["template"]["spec"] for each in crons)]
    for spec in [*serving.values(), *others]:
        check_restricted(spec)


def check_restricted(spec: Json) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"}
        assert set(container["resources"]["limits"]) == {"memory", "ephemeral-storage"}
        assert not container["image"].endswith(":latest")


async def test_monitoring_is_taken_by_the_operator_of_prometheus_and_audits_once_an_hour(
    cluster: Plane, tmp_path: Path
) -> None:
    kinds = {"PodMonitor", "PrometheusRule", "CronJob"}
    documents = await rendered(cluster, overlay_with(tmp_path, "monitoring"))
    documents = [each for each in documents if each["kind"] in kinds]
    assert {each["kind"] for each in documents} == kinds
    first, second = await applied(cluster, documents), await applied(cluster, documents)
    assert [each["metadata"]["resourceVersion"] for each in first] == [
        each["metadata"]["resourceVersion"] for each in second
    ]
    [audit] = [each["spec"] for each in documents if each["kind"] == "CronJob"]
    assert audit["concurrencyPolicy"] == "Forbid"
    check_restricted(audit["jobTemplate"]["spec"]["template"]["spec"])


async def test_a_pod_has_longer_to_end_than_it_needs(cluster: Plane, overlay: str) -> None:
    drains = {
        "gateway": GATEWAY_DRAIN,
        "console": CONSOLE_DRAIN,
        "operator": OPERATOR_DRAIN,
        "relay": RELAY_DRAIN,
        "notifier": NOTIFIER_DRAIN,
        "deliverer": DELIVERER_DRAIN,
    }
    for name, spec in pods(await rendered(cluster, overlay), "Deployment"):
        before = (
            spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        )
        drain = drains.get(name.removeprefix("orderplane-"), 0)
        env = {each["name"]: each.get("value") for each in spec["containers"][0].get("env", ())}
        leave = float(env.get("ORDERPLANE_LEAVE_SECONDS", 0))
        assert spec.get("terminationGracePeriodSeconds", 30) > before + leave + drain, name


async def test_where_an_autoscaler_decides_nothing_else_does(cluster: Plane) -> None:
    documents = await rendered(cluster, "overlays/production")
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]
        for each in documents
        if each["kind"] == "HorizontalPodAutoscaler"
    }
    replicas = {
        each["metadata"]["name"]: "replicas" in each["spec"]
        for each in documents
        if each["kind"] == "Deployment"
    }
    assert scaled
    assert {name for name, has in replicas.items() if not has} == scaled


async def test_every_setting_is_one_that_the_process_reads(cluster: Plane) -> None:
    known = {
        name.split(".")[-2]: {v.name for v in variables_of(settings)} for name, settings in CLASSES.items()
    }
    documents = await rendered(cluster, "overlays/production")
    [shared] = [each["data"] for each in documents if each["kind"] == "ConfigMap"]
    assert set(shared) <= set.union(*known.values()) | {SECRETS_DIR}
    for name, spec in pods(documents, "Deployment"):
        own = {each["name"] for each in spec["containers"][0].get("env", [])}
        assert own <= known[name.removeprefix("orderplane-")]


async def test_a_service_account_has_the_rights_of_its_component_and_no_user_has_any(cluster: Plane) -> None:
    bindings = [each for each in await rendered(cluster, "base") if each["kind"] == "ClusterRoleBinding"]
    assert {(each["roleRef"]["name"], each["subjects"][0]["name"]) for each in bindings} == {
        (f"orderplane:{name}", f"orderplane-{name}") for name in ("operator", "gateway", "webhook", "audit")
    }
    assert {subject["kind"] for each in bindings for subject in each["subjects"]} == {"ServiceAccount"}


async def test_every_process_may_be_disrupted_one_at_a_time(cluster: Plane) -> None:
    documents = await rendered(cluster, "overlays/production")
    budgets = {
        each["metadata"]["name"]: each["spec"].get("maxUnavailable")
        for each in documents
        if each["kind"] == "PodDisruptionBudget"
    }
    assert budgets == {f"orderplane-{name}": 1 for name in PROCESSES}


async def test_external_secrets_make_every_secret_that_a_pod_reads(cluster: Plane, tmp_path: Path) -> None:
    documents = await rendered(cluster, overlay_with(tmp_path, "external-secrets", "monitoring"))
    made = {each["spec"]["target"]["name"] for each in documents if each["kind"] == "ExternalSecret"}
    specs = [spec for _, spec in pods(documents, "Deployment", "Job")]
    specs += [
        each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        for each in documents
        if each["kind"] == "CronJob"
    ]
    read = {name for spec in specs for name in secrets_of(spec)}
    # Certificates come from elsewhere; the console needs a Secret only where others sign people in.
    assert made == read - {"orderplane-webhook-tls", "orderplane-console"}


def secrets_of(spec: Json) -> Iterator[str]:
    for volume in spec["volumes"]:
        if "secret" in volume:
            yield volume["secret"]["secretName"]
    for source in spec["containers"][0].get("envFrom", ()):
        if "secretRef" in source:
            yield source["secretRef"]["name"]


@pytest.mark.parametrize("others", [[], ["high-availability"]], ids=["alone", "beside an autoscaler"])
async def test_keda_alone_decides_about_replicas(cluster: Plane, tmp_path: Path, others: list[str]) -> None:
    documents = await rendered(cluster, overlay_with(tmp_path, *others, "keda"))
    assert not any(each["kind"] == "HorizontalPodAutoscaler" for each in documents)
    scaled = {
        each["spec"]["scaleTargetRef"]["name"]: each for each in documents if each["kind"] == "ScaledObject"
    }
    assert await applied(cluster, list(scaled.values()))
    replicas = {each["metadata"]["name"]: each["spec"] for each in documents if each["kind"] == "Deployment"}
    assert {name for name, spec in replicas.items() if "replicas" not in spec} == set(scaled)


async def test_the_webhooks_certificate_is_made_with_the_rights_of_its_job(
    cluster: Plane, tmp_path: Path
) -> None:
    """By the command as the Job runs it, as the Job's ServiceAccount."""
    documents = await rendered(cluster, overlay_with(tmp_path, "webhook-certificate"))
    await remove_jobs(cluster)
    await applied(cluster, documents)
    path = "/api/v1/namespaces/orderplane-system/secrets/orderplane-webhook-tls"
    configuration = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/orderplane-webhook"
    kubeconfig = await kubeconfig_of(cluster, "orderplane-webhook-certificate", tmp_path)
    words = dict(pods(documents, "Job"))["orderplane-webhook-certificate"]["containers"][0]["args"]
    async with await ApiClient.connect(
        user_agent="tests", kubeconfig=str(cluster.kubeconfig("admin"))
    ) as admin:
        first = await orderplane(*words, env={"KUBECONFIG": str(kubeconfig)})
        assert (first.code, first.out) == (0, "The certificate was renewed.\n"), first.err
        made = await admin.read_path(path)
        assert set(made["data"]) == {"tls.crt", "tls.key", "ca.crt"}
        hooks = (await admin.read_path(configuration))["webhooks"]
        assert {hook["clientConfig"]["caBundle"] for hook in hooks} == {made["data"]["ca.crt"]}
        assert base64.b64decode(made["data"]["ca.crt"]).startswith(b"-----BEGIN CERTIFICATE-----")
        again = await orderplane(*words, env={"KUBECONFIG": str(kubeconfig)})
        assert (again.code, again.out) == (0, "The certificate is not due.\n"), again.err
        # Neither takes from the other what it has written.
        await applied(cluster, documents)
        assert (await admin.read_path(path))["data"] == made["data"]
        found = (await admin.read_path(configuration))["webhooks"]
        assert [hook["clientConfig"] for hook in found] == [hook["clientConfig"] for hook in hooks]
        assert [hook["rules"] for hook in found] == [hook["rules"] for hook in hooks]


async def test_each_service_account_may_do_what_the_tables_say(cluster: Plane, tmp_path: Path) -> None:
    await remove_jobs(cluster)
    await applied(cluster, await rendered(cluster, overlay_with(tmp_path, "webhook-certificate")))

    def ask_all() -> list[tuple[str, str]]:
        api = config.new_client_from_config(config_file=str(cluster.kubeconfig("admin")))
        with api:
            reviews = client.AuthorizationV1Api(api)
            return [
                (component, str(attributes))
                for component, is_allowed, attributes in rights.questions()
                if may(reviews, component, attributes) is not is_allowed
            ]

    assert await asyncio.to_thread(ask_all) == []


def may(reviews: Any, component: str, attributes: Mapping[str, str]) -> bool:
    namespace = rights.NAMESPACE
    review = {
        "user": f"system:serviceaccount:{namespace}:orderplane-{component}",
        "groups": [
            "system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated",
        ],
        "resourceAttributes": attributes,
    }  # fmt: skip
    answer = reviews.create_subject_access_review({"spec": review}, _request_timeout=15)
    return bool(answer.status.allowed)


async def test_merchants_are_bound_in_their_own_namespaces(cluster: Plane) -> None:
    """As docs/examples/merchant-access.yaml does it; the base binds none."""
    for overlay in ("base", "overlays/production"):
        for each in await rendered(cluster, overlay):
            if each["kind"].endswith("RoleBinding"):
                assert each["roleRef"]["name"] != "orderplane:merchant"


async def kubeconfig_of(plane: Plane, service_account: str, folder: Path) -> Path:
    token = await kubectl(plane, "create", "token", service_account, "--namespace", "orderplane-system")
    document = json.loads(plane.kubeconfig("admin").read_text())
    [user] = document["users"]
    user["user"] = {"token": token.strip()}
    path = folder / f"{service_account}.kubeconfig"
    path.write_text(json.dumps(document))
    return path
