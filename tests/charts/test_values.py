"""Every value does what values.yaml says, and wrong ones are refused."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from orderplane.adapters.settings import variables_of
from orderplane.dev.settings_page import PROCESSES

from .helm import CHART, PRODUCTION, Helm, Json, Objects, by_name

pytestmark = pytest.mark.charts

SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
TEXT = (CHART / "values.yaml").read_text(encoding="utf-8")
DEFAULTS = yaml.safe_load(TEXT)
COMPONENTS = ("gateway", "console", "operator", "webhook", "relay", "notifier", "deliverer")
DIGEST = "sha256:" + "0" * 64
SETTINGS = {"ORDERPLANE_LOG_FORMAT": "text", "OTEL_SERVICE_NAME": "shop"}
RESOURCES = {"requests": {"cpu": "2"}, "limits": {"memory": "3Gi"}}


def pod(objects: Objects, component: str) -> Json:
    """The template of its Deployment."""
    template: Json = objects["Deployment", f"orderplane-{component}"]["spec"]["template"]
    return template


def spec(objects: Objects, component: str) -> Json:
    found: Json = pod(objects, component)["spec"]
    return found


def container(objects: Objects, component: str) -> Json:
    found: Json = spec(objects, component)["containers"][0]
    return found


def processes(objects: Objects) -> list[Json]:
    """Pods that stay."""
    return [spec(objects, component) for component in COMPONENTS]


def jobs(objects: Objects) -> list[Json]:
    """Pods that end."""
    batch = [each["spec"]["template"]["spec"] for (kind, _), each in objects.items() if kind == "Job"]
    batch += [
        each["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        for (kind, _), each in objects.items()
        if kind == "CronJob"
    ]
    return [objects["Pod", "orderplane-test"]["spec"], *batch]


def audit(objects: Objects) -> Json:
    job: Json = spec_of(objects, "CronJob", "orderplane-audit")
    return dict(job["jobTemplate"]["spec"]["template"]["spec"]) if job else {}


def everywhere(name: str, value: Any) -> Callable[[Objects], bool]:
    """Whether every pod has it in its spec."""
    return lambda objects: all(each.get(name) == value for each in processes(objects) + jobs(objects))


def in_processes(name: str, value: Any) -> Callable[[Objects], bool]:
    return lambda objects: all(each.get(name) == value for each in processes(objects))


def secret_of(objects: Objects, component: str, volume: str = "secrets") -> str:
    volumes = spec(objects, component)["volumes"]
    [name] = [each["secret"]["secretName"] for each in volumes if each["name"] == volume]
    return str(name)


def spec_of(objects: Objects, kind: str, name: str) -> Json:
    """Empty where there is no such object."""
    found: Json = objects.get((kind, name), {}).get("spec", {})
    return found


def scaler(objects: Objects) -> Json:
    return spec_of(objects, "HorizontalPodAutoscaler", "orderplane-gateway")


def policy(objects: Objects, name: str) -> Json:
    return spec_of(objects, "NetworkPolicy", f"orderplane-{name}")


def webhooks(objects: Objects) -> Json:
    return objects["MutatingWebhookConfiguration", "orderplane-webhook"]


def of_component(component: str) -> dict[str, tuple[Any, Callable[[Objects], bool]]]:
    return {
        f"{component}.replicas": (7, lambda o: (
            spec_of(o, "Deployment", f"orderplane-{component}").get("replicas") == 7
        )),
        f"{component}.resources": (RESOURCES, lambda o: (
            container(o, component)["resources"]["requests"]["cpu"] == "2"
            and container(o, component)["resources"]["limits"]["memory"] == "3Gi"
        )),
        f"{component}.secret": ("mine", lambda o: secret_of(o, component) == "mine"),
    }  # fmt: skip


EFFECTS: dict[str, tuple[Any, Callable[[Objects], bool]]] = {
    **{
        key: case
        for component in COMPONENTS
        for key, case in of_component(component).items()
        # Its sessions are in the memory of one process.
        if key != "console.replicas"
    },
    "console.enabled": (False, lambda o: not {
        (kind, name) for kind, name in o
        if kind in ("Deployment", "Service", "PodDisruptionBudget") and name == "orderplane-console"
    }),
    "console.service.port": (81, lambda o: (
        spec_of(o, "Service", "orderplane-console")["ports"][0]["port"] == 81
    )),
    "fullnameOverride": ("shop", lambda o: ("Service", "shop-gateway") in o),
    "commonLabels": ({"team": "shop"}, lambda o: all(
        each["metadata"]["labels"].get("team") == "shop" for each in o.values()
    )),
    "image.prefix": ("registry.example.com/a", lambda o: all(
        each["containers"][0]["image"].startswith("registry.example.com/a/")
        for each in processes(o) + jobs(o)
    )),
    "image.tag": ("1.2.3", lambda o: all(
        container(o, each)["image"] == f"orderplane/{each}:1.2.3" for each in COMPONENTS
    )),
    "image.digests": ({"relay": DIGEST, "cli": DIGEST}, lambda o: (
        container(o, "relay")["image"] == f"orderplane/relay@{DIGEST}"
        and {each["containers"][0]["image"] for each in jobs(o)} == {f"orderplane/cli@{DIGEST}"}
    )),
    "image.pullPolicy": ("Never", lambda o: all(
        each["containers"][0].get("imagePullPolicy") == "Never" for each in processes(o) + jobs(o)
    )),
    "image.pullSecrets": ([{"name": "registry"}], everywhere("imagePullSecrets", [{"name": "registry"}])),
    "settings": (SETTINGS, lambda o: SETTINGS.items() <= o["ConfigMap", "orderplane"]["data"].items()),
    "crds.install": (False, lambda o: "CustomResourceDefinition" not in {kind for kind, _ in o}),
    "gateway.signingKeysSecret": ("mine", lambda o: secret_of(o, "gateway", "signing-keys") == "mine"),
    "gateway.service.type": ("LoadBalancer", lambda o: (
        spec_of(o, "Service", "orderplane-gateway").get("type") == "LoadBalancer"
    )),
    "gateway.service.port": (81, lambda o: (
        spec_of(o, "Service", "orderplane-gateway")["ports"][0]["port"] == 81
        and o["Pod", "orderplane-test"]["spec"]["containers"][0]["env"][0]["value"].endswith(":81")
    )),
    "gateway.service.annotations": ({"a": "b"}, lambda o: (
        o["Service", "orderplane-gateway"]["metadata"].get("annotations") == {"a": "b"}
    )),
    "gateway.autoscaling.enabled": (True, lambda o: (
        scaler(o) != {} and "replicas" not in spec_of(o, "Deployment", "orderplane-gateway")
    )),
    "gateway.autoscaling.minReplicas": (4, lambda o: scaler(o).get("minReplicas") == 4),
    "gateway.autoscaling.maxReplicas": (40, lambda o: scaler(o).get("maxReplicas") == 40),
    "gateway.autoscaling.cpuPercent": (55, lambda o: (
        scaler(o) != {} and scaler(o)["metrics"][0]["resource"]["target"]["averageUtilization"] == 55
    )),
    "webhook.certificate.issuer": ("cert-manager", lambda o: ("Certificate", "orderplane-webhook") in o and (
        ("CronJob", "orderplane-webhook-certificate") not in o
        and webhooks(o)["metadata"]["annotations"]
        == {"cert-manager.io/inject-ca-from": "orderplane-system/orderplane-webhook"}
    )),
    "webhook.certificate.secret": ("mine", lambda o: secret_of(o, "webhook", "certificate") == "mine"),
    "webhook.certificate.caBundle": ("Q0E=", lambda o: all(
        each["clientConfig"].get("caBundle") == "Q0E=" for each in webhooks(o)["webhooks"]
    )),
    "migrate.secret": ("mine", lambda o: any(
        each.get("secret", {}).get("secretName") == "mine"
        for each in spec_of(o, "Job", "orderplane-migrate-1")["template"]["spec"]["volumes"]
    )),
    "audit.schedule": ("5 4 * * *", lambda o: (
        spec_of(o, "CronJob", "orderplane-audit")["schedule"] == "5 4 * * *"
    )),
    "audit.resources": (RESOURCES, lambda o: (
        audit(o)["containers"][0]["resources"]["requests"]["cpu"] == "2"
    )),
    "audit.secret": ("mine", lambda o: (
        audit(o)["containers"][0]["envFrom"][1] == {"secretRef": {"name": "mine"}}
    )),
    "monitoring": (True, lambda o: (
        ("PodMonitor", "orderplane") in o and ("PrometheusRule", "orderplane") in o
        and "saga.json" in o["ConfigMap", "orderplane-dashboards"]["data"]
    )),
    "jobs.resources": (RESOURCES, lambda o: all(
        each["containers"][0]["resources"]["requests"]["cpu"] == "2" for each in jobs(o) if each != audit(o)
    )),
    "uninstall.refuseWhileOrdersAreOpen": (False, lambda o: ("Job", "orderplane-open-orders") not in o),
    "serviceAccountAnnotations": ({"audit": {"a": "b"}}, lambda o: (
        o["ServiceAccount", "orderplane-audit"]["metadata"].get("annotations") == {"a": "b"}
    )),
    "podAnnotations": ({"a": "b"}, lambda o: all(
        pod(o, each)["metadata"]["annotations"].get("a") == "b" for each in COMPONENTS
    )),
    "podSecurityContext": ({"runAsUser": None}, lambda o: all(
        "runAsUser" not in each["securityContext"] for each in processes(o) + jobs(o)
    )),
    "nodeSelector": ({"disk": "ssd"}, everywhere("nodeSelector", {"disk": "ssd"})),
    "tolerations": ([{"operator": "Exists"}], everywhere("tolerations", [{"operator": "Exists"}])),
    "affinity": ({"podAffinity": {}}, in_processes("affinity", {"podAffinity": {}})),
    "topologySpread": (True, lambda o: all(
        len(each.get("topologySpreadConstraints", [])) == 2 for each in processes(o)
    )),
    "priorityClass.create": (True, lambda o: ("PriorityClass", "orders") in o),
    "priorityClass.name": ("urgent", in_processes("priorityClassName", "urgent")),
    "disruptionBudgets": (True, lambda o: all(
        ("PodDisruptionBudget", f"orderplane-{each}") in o for each in COMPONENTS
    )),
    "networkPolicies.enabled": (True, lambda o: policy(o, "deny-all") != {} and policy(o, "test") != {}),
    "networkPolicies.extraEgressPorts": ([6432], lambda o: (
        {"ports": [{"protocol": "TCP", "port": 6432}]} in policy(o, "egress").get("egress", [])
    )),
    "networkPolicies.metricsFromNamespaces": ({"mine": "yes"}, lambda o: policy(o, "metrics") != {} and (
        "mine" in policy(o, "metrics")["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"]
    )),
}  # fmt: skip
"""A value that is not the default, and what is true of the objects with it, but not without it."""

ONLY_WITH: Mapping[str, Json] = {
    "gateway.autoscaling": {"gateway": {"autoscaling": {"enabled": True}}},
    "networkPolicies": {"networkPolicies": {"enabled": True}},
    "webhook.certificate.secret": {"webhook": {"certificate": {"issuer": "you"}}},
    "audit": {"monitoring": True},
    "priorityClass.create": {"priorityClass": {"name": "orders"}},
}
"""Values that others need."""


def leaves(values: Json, schema: Json, path: str = "") -> Iterator[str]:
    """Every value by its path. A map of free keys is one value."""
    for name, value in values.items():
        inner = schema["properties"][name]
        if "properties" in inner:
            yield from leaves(value, inner, f"{path}{name}.")
        else:
            yield path + name


def nested(path: str, value: Any) -> Json:
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value)


def merged(first: Json, second: Json) -> Json:
    return {
        **first,
        **{
            name: merged(first[name], value) if isinstance(value, dict) and name in first else value
            for name, value in second.items()
        },
    }


@pytest.mark.parametrize("path", EFFECTS)
async def test_a_value_has_its_effect(helm: Helm, path: str) -> None:
    value, is_seen = EFFECTS[path]
    needed = next((v for prefix, v in ONLY_WITH.items() if path.startswith(prefix)), {})
    if path.endswith(".enabled"):
        needed = {}
    assert not is_seen(by_name(await helm.template(needed)))
    assert is_seen(by_name(await helm.template(merged(needed, nested(path, value)))))


def test_every_value_is_tested_and_there_are_few() -> None:
    found = list(leaves(DEFAULTS, SCHEMA))
    assert sorted(found) == sorted(EFFECTS)
    assert len(found) < 64


def test_every_value_is_documented() -> None:
    """By a comment above it, or above the group that it is in."""
    documented: set[str] = set()
    path: list[str] = []
    lines = TEXT.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        name, colon, _ = line.strip().partition(":")
        if not colon or line.strip().startswith("#"):
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], name]
        if before.strip().startswith("#"):
            documented.add(".".join(path))
    for value in leaves(DEFAULTS, SCHEMA):
        parts = value.split(".")
        assert any(".".join(parts[:count]) in documented for count in range(1, len(parts) + 1)), value


def test_the_defaults_and_the_example_follow_the_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)
    Draft7Validator(SCHEMA).validate(DEFAULTS)
    Draft7Validator(SCHEMA).validate(yaml.safe_load(PRODUCTION.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "values",
    [
        {"gateways": {}},
        {"gateway": {"replica": 2}},
        {"gateway": {"replicas": 0}},
        {"gateway": {"replicas": "2"}},
        {"gateway": {"resources": {"requests": {"cpu": "250mm"}}}},
        {"gateway": {"autoscaling": {"cpuPercent": 101}}},
        {"image": {"prefix": "registry.example.com/"}},
        {"image": {"tag": "latest"}},
        {"image": {"digests": {"gateway": "sha256:abc"}}},
        {"image": {"digests": {"gatewy": DIGEST}}},
        {"image": {"pullPolicy": "Sometimes"}},
        {"settings": {"ORDERPLANE_KAFKA_REPLICATION": 3}},
        {"settings": {"KAFKA": "kafka:9092"}},
        {"webhook": {"certificate": {"caBundle": "-----BEGIN CERTIFICATE-----"}}},
        {"networkPolicies": {"metricsFromNamespaces": {}}},
        {"networkPolicies": {"extraEgressPorts": ["postgres"]}},
    ],
)
def test_a_wrong_value_is_refused(values: Json) -> None:
    assert not Draft7Validator(SCHEMA).is_valid(values)


async def test_helm_names_the_wrong_value(helm: Helm) -> None:
    done = await helm.run("template", "orderplane", str(CHART), "--set", "gateway.replica=2")
    assert done.returncode != 0
    assert "replica" in done.stderr


async def test_what_the_chart_fixes_and_what_is_secret_is_no_setting(helm: Helm) -> None:
    """A secret among the settings would be in a ConfigMap, which many may read."""
    objects = by_name(await helm.template())
    fixed = set(objects["ConfigMap", "orderplane"]["data"]) - {"ORDERPLANE_LOG_FORMAT"}
    for component in COMPONENTS:
        fixed |= {each["name"] for each in container(objects, component).get("env", [])}
    secret = {v.name for each in PROCESSES.values() for v in variables_of(each) if v.is_secret}
    refused = SCHEMA["properties"]["settings"]["propertyNames"]["not"]["enum"]
    assert sorted(refused) == sorted(fixed | secret)


async def test_settings_begin_a_rollout(helm: Helm) -> None:
    before = by_name(await helm.template())
    after = by_name(await helm.template({"settings": {"ORDERPLANE_LOG_LEVEL": "DEBUG"}}))
    for component in COMPONENTS:
        assert pod(before, component) != pod(after, component)
