"""The reasons that programs compare: one enum, its page, and nobody who writes one out."""

import ast
import re
from pathlib import Path

import pytest

from orderplane.crds.meta import Condition, Kind
from orderplane.crds.reasons import Reason, deleted, document, missing

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("crds", "ledgers", "controllers", "adapters", "operator", "workers")

REASON_AT = {"Transient": 0, "Unclear": 0, "Refused": 0, "Compensate": 0, "KubernetesEvent": 1, "Fact": 2}
"""Where these calls take their reason."""


def written_out(source: str) -> list[int]:
    """The lines where a reason is a string and not a member of the enum."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        given = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
        if name in REASON_AT:
            given += node.args[REASON_AT[name] : REASON_AT[name] + 1]
        found += [node.lineno for value in given if is_text(value)]
    return found


def is_text(node: ast.expr) -> bool:
    match node:
        case ast.BoolOp(values=values):
            return any(map(is_text, values))
        case ast.IfExp(body=body, orelse=orelse):
            return is_text(body) or is_text(orelse)
        case ast.Constant(value=str()) | ast.JoinedStr():
            return True
    return False


def test_the_page_is_what_the_enum_says() -> None:
    assert (ROOT / "docs" / "reasons.md").read_text() == document()


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_fits_a_condition_and_says_what_it_means(reason: Reason) -> None:
    limits = {type(item).__name__: item for item in Condition.model_fields["reason"].metadata}
    assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", reason)
    assert len(reason) <= limits["MaxLen"].max_length
    assert reason.meaning.endswith(".")
    assert reason.name == re.sub(r"(?<!^)(?=[A-Z])", "_", reason).upper()


@pytest.mark.parametrize("kind", [Kind.RESERVATION, Kind.PAYMENT, Kind.SHIPMENT])
def test_a_child_that_is_deleted_or_gone_has_its_reason(kind: Kind) -> None:
    assert (deleted(kind), missing(kind)) == (f"{kind}Deleted", f"{kind}Missing")


@pytest.mark.parametrize("room", ROOMS)
def test_nobody_writes_a_reason_out(room: str) -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}"
        for path in (ROOT / room).rglob("*.py")
        for line in written_out(path.read_text())
    }
    assert found == set()


@pytest.mark.parametrize(
    "call",
    ['Refused("CardDeclined", "no")', 'errors.Refused(f"{kind}Deleted", "")', 'gates.compensate(reason="No")',
     'Fact("Paid", "True", "Done")', 'Fact("Paid", "True", reason=why or "Done")'],
)  # fmt: skip
def test_one_that_is_written_out_would_be_found(call: str) -> None:
    assert written_out(f"def f():\n    {call}\n") == [2]
    assert written_out('Fact("Paid", "True", Reason.REFUNDED, "x")') == []
