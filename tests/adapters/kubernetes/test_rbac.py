"""Every right of every identity, and what it is for. A right that is not in this table was not reviewed."""

from collections.abc import Iterator
from typing import Any

import yaml

from orderplane.adapters.kubernetes.install import shipped_manifests
from orderplane.dev.localplane.paths import project_root

Right = tuple[str, str, str]
"""Identity; resource with its group and, where the right is for one object only, its name; verb."""

OURS = ("orders", "reservations", "payments", "shipments")
CHILDREN = OURS[1:]

NEEDED: dict[str, dict[tuple[str, ...], dict[str, str]]] = {
    "operator": {
        OURS: {
            "get": "live reads before an effect (Cluster.get_live)",
            "list": "resync",
            "watch": "Kopf's streams",
            "patch": "its finalizer is taken off (Cluster.release)",
            "delete": "compensation, ttlSecondsAfterFinished",
        },
        CHILDREN: {"create": "the steps of the saga"},
        tuple(f"{name}/status" for name in OURS): {"update": "status writes (PUT)"},
        ("orders/finalizers",): {"update": "blockOwnerDeletion in the children"},
        ("events", "events.k8s.io/events"): {"create": "Kubernetes Events about orders"},
        tuple(f"apiextensions.k8s.io/customresourcedefinitions/{name}.orderplane.dev" for name in OURS): {
            "get": "their revision, at the start"
        },
    },
    "gateway": {
        ("orders",): {
            "get": "GET /api/orders/{order_id} of what is not in memory",
            "list": "GET /api/orders; what its watch begins with",
            "watch": "the orders in its memory (Reflector)",
            "create": "POST /api/orders",
            "patch": "POST /api/orders/{order_id}/cancel",
        },
        ("reservations",): {
            "get": "GET /api/inventory/reservations/{reservation_id}",
            "create": "POST /api/inventory/reserve",
            "delete": "POST /api/inventory/release",
        },
    },
    "webhook": {
        ("apiextensions.k8s.io/customresourcedefinitions",): {
            "list": "Kopf looks for our kinds",
            "watch": "they may be installed later",
        },
    },
    "audit": {OURS: {"list": "orderplane audit", "get": "a person looks at what it has found"}},
    "merchant": {
        ("orders",): {
            "get": "kubectl get", "list": "kubectl get", "watch": "kubectl get -w, kubectl wait",
            "create": "kubectl apply", "update": "kubectl replace", "patch": "kubectl apply, cancel, retry",
            "delete": "kubectl delete",
        },
        ("reservations",): {
            "get": "kubectl get", "list": "kubectl get", "watch": "kubectl get -w, kubectl wait",
            "create": "kubectl apply", "delete": "kubectl delete",
            "patch": "kubectl apply again; who made one with a finalizer of its own takes it off",
        },
        ("payments", "shipments"): {
            "get": "kubectl get", "list": "kubectl get", "watch": "kubectl get -w, kubectl wait"
        },
        ("events", "events.k8s.io/events"): {
            "get": "kubectl describe", "list": "kubectl describe", "watch": "kubectl events --watch"
        },
        ("namespaces",): {"get": "tools that check that a namespace is there"},
    },
}  # fmt: skip

DOCUMENTS = [
    document
    for file in shipped_manifests(with_policies=True)
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [document for document in DOCUMENTS if document["kind"] == kind]


def given() -> Iterator[Right]:
    for role in of_kind("ClusterRole"):
        identity = role["metadata"]["name"].removeprefix("orderplane:")
        for rule in role["rules"]:
            assert "nonResourceURLs" not in rule, "add them to the table"
            for group in rule["apiGroups"]:
                prefix = "" if group in ("", "orderplane.dev") else f"{group}/"
                for resource in rule["resources"]:
                    for name in rule.get("resourceNames", [""]):
                        for verb in rule["verbs"]:
                            yield identity, f"{prefix}{resource}{name and f'/{name}'}", verb


def needed() -> Iterator[Right]:
    for identity, rights in NEEDED.items():
        for resources, verbs in rights.items():
            for resource in resources:
                for verb, what_for in verbs.items():
                    assert what_for
                    yield identity, resource, verb


def test_nobody_has_a_right_that_nobody_needs() -> None:
    assert set(given()) == set(needed())
    assert not any("*" in part for right in given() for part in right)


def test_no_shipped_role_but_those_of_the_processes_is_bound_to_the_whole_cluster() -> None:
    assert of_kind("Role") == of_kind("RoleBinding") == []
    bound = {
        binding["roleRef"]["name"]: [(subject["kind"], subject["name"]) for subject in binding["subjects"]]
        for binding in of_kind("ClusterRoleBinding")
    }
    assert bound == {
        f"orderplane:{name}": [("User", f"orderplane:{name}")]
        for name in ("operator", "gateway", "webhook", "audit")
    }


def test_a_merchants_staff_is_bound_in_its_namespace() -> None:
    example = project_root() / "docs" / "examples" / "merchant-access.yaml"
    binding = yaml.safe_load(example.read_text(encoding="utf-8"))
    assert binding["kind"] == "RoleBinding"
    assert binding["metadata"]["namespace"]
    assert binding["roleRef"]["name"] == "orderplane:merchant"
