"""docs/examples/argocd-health.yaml, by the Lua that Argo CD has (5.1)."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import lua51

from orderplane.crds.meta import GROUP, Kind

ROOT = Path(__file__).parents[2]
SCRIPTS: dict[str, str] = yaml.safe_load(
    (ROOT / "docs" / "examples" / "argocd-health.yaml").read_text(encoding="utf-8")
)["data"]

STALLED = {"type": "Stalled", "status": "True", "reason": "RefundFailed", "message": "Somebody has to pay."}

EXPECTED = {
    Kind.ORDER: {
        "Pending": "Progressing", "Reserved": "Progressing", "Paid": "Progressing", "Shipped": "Healthy",
        "Delivered": "Healthy", "Returned": "Healthy", "Compensating": "Progressing", "Failed": "Degraded",
        "Cancelled": "Healthy",
    },
    Kind.RESERVATION: {
        "Pending": "Progressing", "Held": "Healthy", "Committed": "Healthy", "Rejected": "Degraded",
        "Expired": "Degraded", "Lost": "Degraded", "Released": "Healthy",
    },
    Kind.PAYMENT: {
        "Pending": "Progressing", "Captured": "Healthy", "Declined": "Degraded", "Cancelled": "Healthy",
        "Refunding": "Progressing", "Refunded": "Healthy",
    },
    Kind.SHIPMENT: {
        "Pending": "Progressing", "Scheduled": "Healthy", "InTransit": "Healthy", "Delivered": "Healthy",
        "Rejected": "Degraded", "Cancelled": "Healthy",
    },
}  # fmt: skip
ROWS = [(kind, phase, health) for kind, phases in EXPECTED.items() for phase, health in phases.items()]


def health(kind: Kind, resource: dict[str, Any]) -> dict[str, str]:
    runtime = lua51.LuaRuntime(register_eval=False)
    runtime.globals().obj = runtime.table_from(resource, recursive=True)
    return dict(runtime.execute(SCRIPTS[f"resource.customizations.health.{GROUP}_{kind}"]))


def resource(phase: str | None = None, **status: Any) -> dict[str, Any]:
    known = {"observedGeneration": 2, **({"phase": phase} if phase else {}), **status}
    return {"metadata": {"generation": 2}, "status": known}


@pytest.mark.parametrize(("kind", "phase", "expected"), ROWS)
def test_each_phase_has_its_health(kind: Kind, phase: str, expected: str) -> None:
    assert health(kind, resource(phase)) == {"status": expected, "message": phase}


@pytest.mark.parametrize("kind", Kind)
def test_every_phase_of_the_crd_is_in_the_table(kind: Kind) -> None:
    crd = yaml.safe_load((ROOT / "crds" / f"{kind.lower()}.yaml").read_text(encoding="utf-8"))
    [version] = crd["spec"]["versions"]
    phases = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["phase"]["enum"]
    assert set(phases) == set(EXPECTED[kind])


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("given", "status", "says"),
    [
        ({"metadata": {"generation": 1}}, "Progressing", "has not seen"),
        (resource(), "Progressing", "Pending"),
        (resource("Pending", observedGeneration=1), "Progressing", "has not seen"),
        (resource("Pending", reason="OutOfStock"), "Progressing", "Pending: OutOfStock"),
        (resource("Pending", conditions=[STALLED]), "Degraded", "RefundFailed: Somebody has to pay."),
        (resource("Pending", conditions=[STALLED | {"status": "False"}]), "Progressing", "Pending"),
        (resource("Pending", conditions=[STALLED | {"type": "Paid"}]), "Progressing", "Pending"),
    ],
)  # fmt: skip
def test_what_is_new_or_stalled_is_told_apart(
    kind: Kind, given: dict[str, Any], status: str, says: str
) -> None:
    found = health(kind, given)
    assert found["status"] == status
    assert says in found["message"]
