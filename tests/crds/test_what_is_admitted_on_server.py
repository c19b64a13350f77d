"""What the API server admits, the operator can handle: no object that can be made but never changed."""

from collections.abc import Callable
from typing import Any

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.crds.api_errors import ApiError, Forbidden, Invalid
from orderplane.crds.meta import Kind
from orderplane.dev.localplane.plane import Plane

from ..support.plane import make_namespace
from .handling import handle

pytestmark = pytest.mark.integration

As = Callable[[str], ApiClient]
Make = Callable[..., Any]
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
async def namespace(plane: Plane) -> str:
    """One for all cases: what they make has names of its own."""
    return await make_namespace(plane)


def of_spec(**values: Any) -> Change:
    return lambda body: body["spec"].update(values)


def of_metadata(**values: Any) -> Change:
    return lambda body: body["metadata"].update(values)


def labelled(count: int) -> Change:
    return lambda body: body["metadata"]["labels"].update({f"l{number}": "x" for number in range(count)})


def held_by(count: int) -> Change:
    return lambda body: body["metadata"]["finalizers"].extend(
        f"{'x' * 60}.example.org/{number}" for number in range(count)
    )


def owned_by(count: int) -> Change:
    return of_metadata(
        ownerReferences=[
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": f"u-{number}"}
            for number in range(count)
        ]
    )


def in_line(body: dict[str, Any]) -> None:
    body["spec"]["items"][0]["quantity"] = 2.0


def managed_by(managers: int, fields: int = 1) -> Change:
    """The sender may write these, too."""
    entries = [
        {
            "manager": f"mine-{number}",
            "operation": "Apply",
            "apiVersion": "orderplane.dev/v1alpha1",
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:metadata": {"f:labels": {f"f:{field}": {} for field in range(fields)}}},
        }
        for number in range(managers)
    ]
    return of_metadata(managedFields=entries)


def deeply_managed(levels: int, size: int = 1) -> Change:
    """As of no field that there is; the innermost has a name of `size` characters."""
    fields: dict[str, Any] = {}
    for level in range(levels):
        fields = {f"f:{level}": fields} if level else {f"f:{'<' * size}": {}}

    def change(body: dict[str, Any]) -> None:
        managed_by(1)(body)
        body["metadata"]["managedFields"][0]["fieldsV1"] = fields

    return change


def annotated(count: int, size: int, character: str = "y") -> Change:
    """With values that have `size` characters together with the names."""
    annotations = {f"a{number}": "" for number in range(count)}
    annotations["a0"] = character * (size - sum(map(len, annotations)))
    return of_metadata(annotations=annotations)


def most_metadata(character: str) -> Change:
    return of_spec(
        metadata={f"{number:02}{character * 38}": character * 500 for number in range(50)},
        reference=character * 200,
    )


def full(body: dict[str, Any]) -> None:
    """As large as may be, also in bytes: a JSON encoder of Go writes `<` in six."""
    long = "x" * 250
    for change in (annotated(64, 65_536, "<"), held_by(15), deeply_managed(5, 80_000), most_metadata("<")):
        change(body)
    body["metadata"]["labels"] |= {f"{long}/{number:063d}": "v" * 63 for number in range(62)}
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": "<" * 253, "kind": "<" * 253, "name": "<" * 253, "uid": f"{number:03d}{'<' * 250}"}
        for number in range(16)
    ]


TIMES = (
    "2030-01-01t00:00:00z", "2030-01-01T00:00:00+00:00", "2030-01-01T00:00:00-23:59",
    "2030-01-01T00:00:00.000000001Z", "2030-02-30T00:00:00Z", "2030-01-01T00:00:60Z", "2030-01-01T24:00:00Z",
    "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "2100-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "2030-01-01", "2030-01-01T00:00:00", "2030-01-01 00:00:00Z", "", "soon",
    "2030-01-01T00:00:00Z\n", "\u0662\u0660\u0663\u0660-01-01T00:00:00Z",
)  # fmt: skip

REFUSED: dict[str, tuple[Kind, Change]] = {
    **{f"expiresAt={time!a}": (Kind.RESERVATION, of_spec(expiresAt=time)) for time in TIMES},
    "expiresAt is a number": (Kind.RESERVATION, of_spec(expiresAt=1893456000)),
    "quantity is a float": (Kind.ORDER, in_line),
    "17 finalizers": (Kind.ORDER, held_by(16)),
    "1000 finalizers": (Kind.ORDER, held_by(1_000)),
    "10000 finalizers": (Kind.RESERVATION, held_by(10_000)),
    "17 owners": (Kind.ORDER, owned_by(17)),
    "5000 owners": (Kind.RESERVATION, owned_by(5_000)),
    "70 labels": (Kind.ORDER, labelled(70)),
    "20000 labels": (Kind.RESERVATION, labelled(20_000)),
    "70 field managers": (Kind.ORDER, managed_by(70)),
    "1000 field managers": (Kind.ORDER, managed_by(1_000)),
    "300 kB of annotations": (Kind.ORDER, of_metadata(annotations={"x": "y" * 300_000})),
    "65537 characters of annotations": (Kind.ORDER, annotated(2, 65_537)),
    "65 annotations": (Kind.ORDER, annotated(65, 1_000)),
    "20000 annotations": (Kind.ORDER, annotated(20_000, 200_000)),
    "much in each of 60 field managers": (Kind.ORDER, managed_by(60, 220)),
    "much in one field manager": (Kind.ORDER, managed_by(1, 15_000)),
    "managed fields of six levels": (Kind.ORDER, deeply_managed(6)),
    "an owner with a long uid": (
        Kind.ORDER,
        of_metadata(ownerReferences=[{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "u" * 254}]),
    ),
    "a name of 51": (Kind.ORDER, of_metadata(name="n" * 51)),
    "a name of 254": (Kind.RESERVATION, of_metadata(name="n" * 254)),
    "a generated name of 63": (Kind.ORDER, of_metadata(name=None, generateName="n" * 200)),
    "an item of null": (Kind.ORDER, of_spec(items=[None])),
    "51 pairs of metadata": (Kind.ORDER, of_spec(metadata={f"k{number}": "v" for number in range(51)})),
    "metadata with a name of 41": (Kind.ORDER, of_spec(metadata={"k" * 41: "v"})),
    "metadata with a value of 501": (Kind.ORDER, of_spec(metadata={"k": "v" * 501})),
    "metadata with an escape": (Kind.ORDER, of_spec(metadata={"k": "\x1b[31m"})),
    "metadata with a line end in a name": (Kind.ORDER, of_spec(metadata={"k\n": "v"})),
    "a reference of 201": (Kind.ORDER, of_spec(reference="r" * 201)),
    "an empty reference": (Kind.ORDER, of_spec(reference="")),
    "a reference with a control": (Kind.ORDER, of_spec(reference="a\u0085b")),
    "51 items": (
        Kind.RESERVATION,
        of_spec(items=[{"sku": f"SKU-{number}", "quantity": 1} for number in range(51)]),
    ),
}

ADMITTED: dict[str, tuple[Kind, Change]] = {
    "ttlSecondsAfterFinished is a float": (Kind.ORDER, of_spec(ttlSecondsAfterFinished=60.0)),
    "ttlSecondsAfterFinished in exponents": (Kind.ORDER, of_spec(ttlSecondsAfterFinished=1e3)),
    "expiresAt, the first": (Kind.RESERVATION, of_spec(expiresAt="2000-01-01T00:00:00Z")),
    "expiresAt, the last": (Kind.RESERVATION, of_spec(expiresAt="2099-12-31T23:59:59Z")),
    "expiresAt, a leap day": (Kind.RESERVATION, of_spec(expiresAt="2028-02-29T00:00:00Z")),
    "orderRef of null": (Kind.RESERVATION, of_spec(orderRef=None)),
    "16 finalizers": (Kind.ORDER, held_by(15)),
    "16 owners": (Kind.RESERVATION, owned_by(16)),
    "62 labels": (Kind.ORDER, labelled(62)),
    "64 annotations of 65536 characters": (Kind.ORDER, annotated(64, 65_536, "\u00e9")),
    "managed fields of five levels": (Kind.ORDER, deeply_managed(5)),
    "as much as there may be of everything": (Kind.ORDER, full),
    "a name of 50": (Kind.ORDER, of_metadata(name="n" * 50)),
    "a name with dots": (Kind.ORDER, of_metadata(name="a.b-c.d")),
    "a name of 253": (Kind.RESERVATION, of_metadata(name="n" * 253)),
    "a generated name": (Kind.ORDER, of_metadata(name=None, generateName="order-")),
    "a long generated name": (Kind.RESERVATION, of_metadata(name=None, generateName="n" * 250)),
    "a time to be deleted": (Kind.ORDER, of_metadata(deletionTimestamp="0001-01-01T00:00:00Z")),
    "a grace period": (Kind.ORDER, of_metadata(deletionGracePeriodSeconds=2**62)),
    "a creation time": (Kind.ORDER, of_metadata(creationTimestamp="9999-12-31T23:59:59Z")),
    "a generation": (Kind.ORDER, of_metadata(generation=2**62)),
    "a status": (Kind.ORDER, lambda body: body.update(status={"conditions": [{"type": "Paid"}], "x": 1})),
    "unknown fields": (Kind.ORDER, of_spec(gift={"a": ["b"] * 1000})),
    "managed fields": (Kind.ORDER, managed_by(1, 5_000)),
    "60 field managers": (Kind.ORDER, managed_by(60)),
    "50 pairs of metadata": (Kind.ORDER, most_metadata("v")),
    "metadata of other alphabets": (
        Kind.ORDER,
        of_spec(metadata={"\u0646\u200c\u0627": "\u2708\ufe0f \u00a3", "k": ""}, reference="\u65b0-1"),
    ),
    "50 items": (
        Kind.RESERVATION,
        of_spec(items=[{"sku": f"{number:03d}{'x' * 60}", "quantity": 10_000} for number in range(50)]),
    ),
}  # fmt: skip


def author_of(kind: Kind) -> str:
    return "gateway" if kind is Kind.ORDER else "operator"


@pytest.mark.parametrize(("kind", "change"), REFUSED.values(), ids=REFUSED)
async def test_what_could_not_be_handled_is_refused(
    as_: As, namespace: str, a_body: Make, kind: Kind, change: Change
) -> None:
    body = a_body(kind)
    change(body)
    with pytest.raises((Invalid, Forbidden)):
        await as_(author_of(kind)).create(kind, namespace, body)


@pytest.mark.parametrize(("kind", "change"), ADMITTED.values(), ids=ADMITTED)
async def test_what_is_admitted_is_handled(
    as_: As, namespace: str, a_body: Make, kind: Kind, change: Change
) -> None:
    body = a_body(kind)
    change(body)
    made = await as_(author_of(kind)).create(kind, namespace, body)
    await handle(as_, kind, namespace, made["metadata"]["name"])


async def test_a_grace_period_does_not_keep_an_object(as_: As, namespace: str, make: Make) -> None:
    name = await make(Kind.ORDER)
    admin = as_("admin")
    await admin.delete(Kind.ORDER, namespace, name)
    with pytest.raises(ApiError):
        patch = {"metadata": {"deletionGracePeriodSeconds": 2**40}}
        await admin.merge_patch(Kind.ORDER, namespace, name, patch)
    await handle(as_, Kind.ORDER, namespace, name)
