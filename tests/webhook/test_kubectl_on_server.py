"""Orders by kubectl: the real kubectl, API server, webhook process and PostgreSQL."""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import yaml

from orderplane.adapters.postgres.pool import open_pool
from orderplane.crds.defaults import customer_hash, order_manifest
from orderplane.crds.meta import CANCELLED_BY_ANNOTATION, RETRIED_BY_ANNOTATION, RETRY_ANNOTATION
from orderplane.crds.order import Item
from orderplane.dev.localplane.paths import project_root
from orderplane.dev.localplane.plane import Plane
from orderplane.ledgers.postgres.price_rules import PriceRuleStore
from orderplane.ledgers.pricing import Prices, Product, quote

from ..support.price_rules import flat, in_force, set_price_rules

pytestmark = pytest.mark.integration

EXAMPLES = project_root() / "docs" / "examples"


@dataclass(frozen=True, slots=True)
class Answer:
    """How kubectl ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


Kubectl = Callable[..., Awaitable[Answer]]


@pytest.fixture(scope="module")
async def _webhook(plane: Plane) -> AsyncIterator[None]:
    await plane.start_process("webhook")
    yield
    await plane.supervisor.stop("webhook")


@pytest.fixture
async def _catalogue(plane: Plane, namespace: str) -> None:
    pool = await open_pool(plane.postgres_dsn, size=1)
    try:
        await pool.executemany(
            "INSERT INTO products (merchant, sku, name, currency, unit_amount, weight_grams, is_active) "
            "VALUES ($1, $2, $2, $3, $4, $5, $6)",
            [
                (namespace, "TEA-EARL-GREY-100", "EUR", 650, 120, True),
                (namespace, "MUG-STONEWARE-BLUE", "EUR", 1490, 400, True),
                (namespace, "POSTCARD", "USD", 100, 5, True),
                (namespace, "SOLD-OUT-FOREVER", "EUR", 100, 5, False),
                (namespace, "TEA-FILS", "KWD", 1_235, 100, True),
                (namespace, "TEA-SEN", "JPY", 49, 100, True),
                (namespace, "TEA-FRANC", "CHF", 690, 100, True),
                (namespace, "TEA-GOLD", "USD", 100_000_000, 100, True),
            ],
        )
        await pool.execute(
            'UPDATE products SET other_prices = \'{"USD": 700, "CHF": 600}\' '
            "WHERE merchant = $1 AND sku = 'TEA-EARL-GREY-100'",
            namespace,
        )
        await set_price_rules(pool, namespace, EUR=flat(490, 1900), USD=flat(), JPY=flat(), KWD=flat())
    finally:
        await pool.close()


@pytest.fixture
async def kubectl(plane: Plane, namespace: str, tmp_path: Path, _webhook: None, _catalogue: None) -> Kubectl:
    """`await kubectl("get", "orders", identity=..., stdin={...})` in the test's namespace."""

    async def run(*arguments: str, identity: str = "merchant", stdin: Any = None) -> Answer:
        assert plane.kubectl is not None
        process = await asyncio.create_subprocess_exec(
            plane.kubectl, "--kubeconfig", plane.kubeconfig(identity), "--namespace", namespace, *arguments,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        given = yaml.safe_dump(stdin, sort_keys=False).encode() if stdin is not None else b""
        out, err = await asyncio.wait_for(process.communicate(given), 30)
        assert process.returncode is not None
        return Answer(process.returncode, out.decode(), err.decode())

    return run


def an_order(**changes: Any) -> dict[str, Any]:
    order: dict[str, Any] = yaml.safe_load((EXAMPLES / "order.yaml").read_text())
    for path, value in changes.items():
        part, name = path.split("__")
        if value is None:
            order[part].pop(name, None)
        else:
            order[part][name] = value
    return order


async def test_apply_twice_says_unchanged_and_diff_is_empty(kubectl: Kubectl, namespace: str) -> None:
    file = str(EXAMPLES / "order.yaml")
    assert (await kubectl("apply", "-f", file)).out == "order.orderplane.dev/tea-and-a-mug created\n"
    assert (await kubectl("apply", "-f", file)).out == "order.orderplane.dev/tea-and-a-mug unchanged\n"
    assert await kubectl("diff", "-f", file) == Answer(0, "", "")
    order = (await kubectl("get", "order", "tea-and-a-mug", "-o", "json")).document
    assert order["spec"]["quote"]["amounts"] == {
        "items": 2790, "shipping": 490, "tax": 623, "includedTax": 0, "discount": 0, "total": 3903,
    }  # fmt: skip
    assert order["spec"]["cancel"] is False
    assert order["metadata"]["finalizers"] == ["orderplane.dev/compensate"]
    labels = order["metadata"]["labels"]
    assert labels["orderplane.dev/customer"] == customer_hash(namespace, "c-1001")
    assert 0 <= int(labels["orderplane.dev/shard"]) < 64
    traceparent = order["metadata"]["annotations"]["orderplane.dev/traceparent"]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", traceparent)
    assert order["status"]["phase"] == "Pending"


async def test_server_side_apply_twice_changes_nothing(kubectl: Kubectl) -> None:
    file = str(EXAMPLES / "order.yaml")
    apply = ("apply", "--server-side", "-f", file)
    assert (await kubectl(*apply)).out == "order.orderplane.dev/tea-and-a-mug serverside-applied\n"
    first = (await kubectl("get", "order", "tea-and-a-mug", "-o", "json")).document
    assert (await kubectl(*apply)).code == 0
    assert await kubectl("diff", "--server-side", "-f", file) == Answer(0, "", "")
    second = (await kubectl("get", "order", "tea-and-a-mug", "-o", "json")).document
    # The defaulted status is stored by the first write after the creation, which dropped it.
    for order in (first, second):
        del order["metadata"]["resourceVersion"]
    assert second == first


async def test_an_edited_order_is_refused_and_unchanged(kubectl: Kubectl) -> None:
    await kubectl("apply", "-f", "-", stdin=an_order())
    before = (await kubectl("get", "order", "tea-and-a-mug", "-o", "json")).document
    edited = an_order(spec__items=[{"sku": "TEA-EARL-GREY-100", "quantity": 3}])
    for way in ((), ("--server-side",)):
        answer = await kubectl("apply", *way, "-f", "-", stdin=edited)
        assert answer.code == 1
        assert "items cannot be changed; cancel this order and make a new one" in answer.err
    after = (await kubectl("get", "order", "tea-and-a-mug", "-o", "json")).document
    assert (after["spec"], after["metadata"]["generation"]) == (before["spec"], 1)


async def test_a_dry_run_shows_the_price_and_stores_nothing(kubectl: Kubectl) -> None:
    answer = await kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=an_order())
    assert answer.document["spec"]["quote"]["amounts"]["total"] == 3903
    assert (await kubectl("get", "orders", "-o", "json")).document["items"] == []


async def test_what_the_author_wrote_is_kept(kubectl: Kubectl) -> None:
    order = an_order(
        metadata__labels={"team": "tea", "orderplane.dev/shard": "17"},
        metadata__annotations={"note.example.org/with.slash": "yes"},
        metadata__finalizers=["example.org/backup"],
    )
    assert (await kubectl("create", "-f", "-", stdin=order)).code == 0
    metadata = (await kubectl("get", "order", "tea-and-a-mug", "-o", "json")).document["metadata"]
    assert metadata["labels"]["team"] == "tea"
    assert metadata["labels"]["orderplane.dev/shard"] == "17"
    assert metadata["annotations"]["note.example.org/with.slash"] == "yes"
    assert metadata["finalizers"] == ["example.org/backup", "orderplane.dev/compensate"]


QUOTE = {
    "currency": "EUR",
    "lines": [
        {"sku": "TEA-EARL-GREY-100", "quantity": 2, "unitAmount": 650, "weightGrams": 120},
        {"sku": "MUG-STONEWARE-BLUE", "quantity": 1, "unitAmount": 1490, "weightGrams": 400},
    ],
    "amounts": {"items": 2790, "shipping": 490, "tax": 623, "discount": 0, "total": 3903},
}


async def test_a_quote_may_be_but_the_currency(kubectl: Kubectl) -> None:
    tea = [{"sku": "TEA-EARL-GREY-100", "quantity": 2}]
    order = an_order(spec__items=tea, spec__quote={"currency": "USD"})
    assert (await kubectl("apply", "-f", "-", stdin=order)).out.endswith("created\n")
    assert (await kubectl("apply", "-f", "-", stdin=order)).out.endswith("unchanged\n")
    quote = (await kubectl("get", "order", "tea-and-a-mug", "-o", "json")).document["spec"]["quote"]
    assert (quote["currency"], quote["amounts"]["total"]) == ("USD", 1400)
    answer = await kubectl(
        "apply", "-f", "-", stdin=an_order(spec__items=tea, spec__quote={"currency": "EUR"})
    )
    assert answer.code == 1
    assert "cannot be changed" in answer.err
    other = an_order(metadata__name="other", spec__quote={"currency": "USD"})
    refused = await kubectl("apply", "-f", "-", stdin=other)
    assert "MUG-STONEWARE-BLUE is not sold in USD, only in EUR" in refused.err


async def test_the_right_quote_is_accepted_and_a_cheaper_one_refused(kubectl: Kubectl) -> None:
    cheaper = {**QUOTE, "amounts": {**QUOTE["amounts"], "shipping": 0, "total": 3413}}  # type: ignore[dict-item]
    answer = await kubectl("create", "-f", "-", stdin=an_order(spec__quote=cheaper))
    assert answer.code == 1
    assert "the total is 39.03 EUR (3903 in minor units)" in answer.err
    assert (await kubectl("create", "-f", "-", stdin=an_order(spec__quote=QUOTE))).code == 0
    # What a quote lacks, because its author knows of no versions, is written.
    written = (await kubectl("get", "order", "tea-and-a-mug", "-o", "json")).document["spec"]["quote"]
    assert written["priceRule"] == {"version": 1, "taxBasisPoints": 1900}
    assert written["amounts"] == {**QUOTE["amounts"], "includedTax": 0}  # type: ignore[dict-item]


async def test_a_rule_is_asked_for_at_each_order(kubectl: Kubectl, plane: Plane, namespace: str) -> None:
    """A deleted one refuses the next order; a new one prices it, by its own version."""
    assert (await kubectl("create", "-f", "-", stdin=an_order())).code == 0
    pool = await open_pool(plane.postgres_dsn, size=1)
    try:
        await PriceRuleStore(pool).change(namespace, "EUR", lambda _: None)
        refused = await kubectl("create", "-f", "-", stdin=an_order(metadata__name="second"))
        assert refused.code == 1
        assert "the shop has no price rule for EUR" in refused.err
        await set_price_rules(pool, namespace, EUR=flat(0, 2000, is_included=True))
    finally:
        await pool.close()
    assert (await kubectl("create", "-f", "-", stdin=an_order(metadata__name="third"))).code == 0
    orders = (await kubectl("get", "orders", "-o", "json")).document["items"]
    assert {
        order["metadata"]["name"]: (
            order["spec"]["quote"]["priceRule"]["version"],
            order["spec"]["quote"]["amounts"]["total"],
        )
        for order in orders
    } == {"tea-and-a-mug": (1, 3903), "third": (3, 2790)}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spec__items": [{"sku": "NOPE", "quantity": 1}]}, "the catalogue has no product NOPE"),
        ({"spec__items": [{"sku": "SOLD-OUT-FOREVER", "quantity": 1}]}, "is not for sale at present"),
        (
            {"spec__items": [{"sku": s, "quantity": 1} for s in ("POSTCARD", "MUG-STONEWARE-BLUE")]},
            "the items are priced in different currencies",
        ),
        ({"spec__items": [{"sku": "MUG-STONEWARE-BLUE", "quantity": 1501}]}, "split it"),
        ({"spec__items": [{"sku": "POSTCARD", "quantity": 0}]}, "[0].quantity: input should be greater"),
        ({"spec__items": [{"sku": "POSTCARD", "quantity": -1}]}, "[0].quantity: input should be greater"),
        ({"spec__items": [{"sku": "POSTCARD", "quantity": 10**15}]}, "[0].quantity: input should be less"),
        (
            {"spec__items": [{"sku": "TEA-FRANC", "quantity": 1}]},
            "spec.items: the shop has no price rule for CHF, which would say what shipping and tax are; "
            "order in EUR, JPY, KWD, USD",
        ),
        (
            {
                "spec__items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1}],
                "spec__quote": {"currency": "CHF"},
            },
            "spec.quote.currency: the shop has no price rule for CHF",
        ),
        ({"spec__items": [{"sku": "TEA-FILS", "quantity": 1}]}, "has to be a multiple of 0.010 KWD"),
        ({"spec__items": [{"sku": "TEA-SEN", "quantity": 1}]}, "less than the 50 JPY that can be charged"),
        ({"spec__items": [{"sku": "TEA-GOLD", "quantity": 1}]}, "the 999999.99 USD that can be charged"),
        ({"spec__items": []}, "spec.items: "),
        ({"spec__items": None}, "spec.items: field required"),
        ({"spec__address": None}, "spec.address: field required"),
        ({"spec__customer": "Ada Secret"}, "spec.customer: string should match pattern"),
        ({"metadata__name": "n" * 51}, "at most 50 characters"),
        ({"spec__colour": "blue"}, 'unknown field "spec.colour"'),
        ({"metadata__labels": {"orderplane.dev/shard": "99"}}, "must be a number from 0 to 63"),
    ],
)  # fmt: skip
async def test_a_wrong_order_is_refused_and_nothing_is_created(
    kubectl: Kubectl, changes: dict[str, Any], says: str
) -> None:
    answer = await kubectl("apply", "-f", "-", stdin=an_order(**changes))
    assert answer.code == 1
    assert says in answer.err
    assert "Ada Secret" not in answer.err
    assert (await kubectl("get", "orders", "-o", "json")).document["items"] == []


async def test_the_example_of_a_wrong_order(kubectl: Kubectl) -> None:
    answer = await kubectl("apply", "-f", str(EXAMPLES / "order-wrong.yaml"))
    assert answer.code == 1
    assert "the catalogue has no product TEA-NO-SUCH-THING; check the SKU" in answer.err


@pytest.mark.parametrize(
    "method", ["4242424242424242", 4242424242424242, "4242 4242 4242 4242", "pm_4242424242424242"]
)
async def test_a_card_number_is_refused_and_repeated_nowhere(
    kubectl: Kubectl, plane: Plane, method: Any
) -> None:
    answer = await kubectl("apply", "-f", "-", stdin=an_order(spec__paymentMethod=method))
    assert answer.code == 1
    assert "looks like a card number" in answer.err
    assert "4242" not in answer.err + answer.out
    assert "4242 4242" not in (log := plane.supervisor.log_of("webhook").read_text())
    assert "42424242" not in log


async def test_a_status_sent_along_is_dropped(kubectl: Kubectl) -> None:
    order = an_order() | {"status": {"phase": "Delivered"}}
    assert (await kubectl("create", "-f", "-", stdin=order)).code == 0
    answer = await kubectl("get", "orders", "--field-selector", "status.phase=Pending", "-o", "name")
    assert answer.out == "order.orderplane.dev/tea-and-a-mug\n"


async def test_columns_short_names_category_and_explain(kubectl: Kubectl) -> None:
    await kubectl("create", "-f", "-", stdin=an_order())
    header, row = (await kubectl("get", "ord")).out.splitlines()
    assert header.split() == ["NAME", "PHASE", "REASON", "STALLED", "TOTAL", "CURRENCY", "AGE"]
    # The operator, which writes the total, does not run here.
    assert row.split()[:3] == ["tea-and-a-mug", "Pending", "EUR"]
    header = (await kubectl("get", "ord", "-o", "wide")).out.splitlines()[0]
    assert header.split()[-3:] == ["CUSTOMER", "REFERENCE", "TRACKING"]
    assert "order.orderplane.dev/tea-and-a-mug" in (await kubectl("get", "orderplane", "-o", "name")).out
    assert "minor units" in (await kubectl("explain", "order.spec.quote.amounts")).out
    for short in ("rsv", "pay", "shp"):
        assert (await kubectl("get", short)).err.startswith("No resources found")


async def test_a_reservation_by_hand_is_preset(kubectl: Kubectl) -> None:
    reservation: dict[str, Any] = {
        "apiVersion": "orderplane.dev/v1alpha1",
        "kind": "Reservation",
        "metadata": {"name": "for-the-fair"},
        "spec": {
            "items": [{"sku": "TEA-EARL-GREY-100", "quantity": 1}],
            "expiresAt": (datetime.now(UTC) + timedelta(days=6)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    }
    assert (await kubectl("apply", "-f", "-", stdin=reservation)).code == 0
    assert (await kubectl("apply", "-f", "-", stdin=reservation)).out.endswith("unchanged\n")
    metadata = (await kubectl("get", "rsv", "for-the-fair", "-o", "json")).document["metadata"]
    assert metadata["finalizers"] == ["orderplane.dev/release-stock"]
    assert metadata["labels"].keys() == {"orderplane.dev/shard"}
    reservation["metadata"]["name"] = "forged"
    reservation["spec"]["orderRef"] = {"name": "some-order", "uid": "1234-5678"}
    answer = await kubectl("apply", "-f", "-", stdin=reservation)
    assert "only the operator reserves for an order; leave spec.orderRef out" in answer.err


@pytest.mark.parametrize("caller", ["nobody", "server"])
async def test_the_webhook_answers_the_api_server_only(
    kubectl: Kubectl, plane: Plane, namespace: str, caller: str
) -> None:
    """The API server shows a client's certificate; the one of a server, by the same authority, is none."""
    assert (await kubectl("create", "-f", "-", stdin=an_order())).code == 0
    tls = ssl.create_default_context(cafile=str(plane.state / "pki" / "ca.crt"))
    if caller == "server":
        tls.load_cert_chain(plane.state / "pki" / "webhook.crt", plane.state / "pki" / "webhook.key")
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "1", "operation": "CREATE", "namespace": namespace, "object": an_order()},
    }
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post(f"{plane.webhook_target.url}/orders", json=review, ssl=tls)


async def test_what_is_no_text_is_refused_by_kubectl_and_named(kubectl: Kubectl) -> None:
    """The table of tests/crds/texts.py, at the outermost door: what REST answers with the same place."""
    for field, text in (("name", "\u200b"), ("city", "Ada\u0007"), ("country", "UK"), ("line1", "Zoe\u0308")):
        order = an_order()
        order["spec"]["address"][field] = text
        answer = await kubectl("create", "-f", "-", stdin=order)
        assert answer.code == 1
        assert f"spec.address.{field}: " in answer.err


async def test_without_the_database_it_says_try_again(kubectl: Kubectl, plane: Plane) -> None:
    await plane.supervisor.stop("postgres")
    try:
        answer = await kubectl("create", "-f", "-", stdin=an_order())
        assert answer.code == 1
        assert "the catalogue cannot be read at present" in answer.err
        assert "try again" in answer.err
    finally:
        await plane.supervisor.start("postgres")
    assert (await kubectl("create", "-f", "-", stdin=an_order())).code == 0


async def test_a_database_that_hangs_is_not_waited_for(kubectl: Kubectl, plane: Plane) -> None:
    connection = await asyncpg.connect(plane.postgres_dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
            answer = await kubectl("create", "-f", "-", stdin=an_order())
    finally:
        await connection.close()
    assert answer.code == 1
    assert "the catalogue cannot be read at present" in answer.err
    assert (await kubectl("create", "-f", "-", stdin=an_order())).code == 0


async def test_with_the_webhook_down_only_new_orders_by_hand_wait(
    kubectl: Kubectl, plane: Plane, namespace: str
) -> None:
    await kubectl("create", "-f", "-", stdin=an_order())
    await plane.supervisor.stop("webhook")
    try:
        answer = await kubectl("create", "-f", "-", stdin=an_order(metadata__name="another"))
        assert answer.code == 1
        assert 'failed calling webhook "orders.orderplane.dev"' in answer.err
        # Server-side apply of an order that exists is an update; client-side apply finds nothing to do.
        assert (await kubectl("apply", "--server-side", "-f", "-", stdin=an_order())).code == 0
        cancel = ("patch", "order", "tea-and-a-mug", "--type=merge", "-p", '{"spec":{"cancel":true}}')
        assert (await kubectl(*cancel)).code == 0
        assert (await kubectl("delete", "--wait=false", "order", "tea-and-a-mug")).code == 0
        let_go = ("patch", "order", "tea-and-a-mug", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
        assert (await kubectl(*let_go, identity="operator")).code == 0
        # The gateway quotes and presets by itself.
        spec = an_order()["spec"]
        products = {"TEA-EARL-GREY-100": Product("TEA-EARL-GREY-100", "", "EUR", 650, 120)}
        spec["items"] = [{"sku": "TEA-EARL-GREY-100", "quantity": 2}]
        prices = Prices(products, in_force(EUR=flat()))
        priced = quote([Item.model_validate(item) for item in spec["items"]], prices, "DE")
        manifest = order_manifest(namespace, "by-the-gateway", spec, priced, None, "3")
        assert (await kubectl("create", "-f", "-", stdin=manifest, identity="gateway")).code == 0
    finally:
        await plane.supervisor.start("webhook")
    assert (await kubectl("create", "-f", "-", stdin=an_order(metadata__name="another"))).code == 0


async def test_who_cancels_or_retries_is_noted(kubectl: Kubectl, plane: Plane) -> None:
    """By the name that the API server knows; without the webhook it goes as well, and nobody is noted."""
    assert (await kubectl("apply", "-f", "-", stdin=an_order())).code == 0
    order = ("order", "tea-and-a-mug")
    retry = ("annotate", *order, "--overwrite", f"{RETRY_ANNOTATION}=1")
    assert (await kubectl(*retry)).code == 0
    assert await noted(kubectl) == {RETRIED_BY_ANNOTATION: "kubernetes:merchant-demo"}
    cancel = ("patch", *order, "--type=merge", "-p", '{"spec": {"cancel": true}}')
    assert (await kubectl(*cancel, identity="admin")).code == 0
    both = {
        RETRIED_BY_ANNOTATION: "kubernetes:merchant-demo",
        CANCELLED_BY_ANNOTATION: "kubernetes:admin",
    }
    assert await noted(kubectl) == both
    assert (await kubectl(*cancel)).code == 0, "it is cancelled already"
    assert await noted(kubectl) == both

    unnamed = an_order(metadata__name="unnamed")
    assert (await kubectl("apply", "-f", "-", stdin=unnamed)).code == 0
    await plane.supervisor.stop("webhook")
    try:
        again = await kubectl(*retry[:-1], f"{RETRY_ANNOTATION}=2", identity="admin")
        assert (again.code, "retried-by says who set" in again.err) == (1, True)
        off = (f"{RETRY_ANNOTATION}=2", f"{RETRIED_BY_ANNOTATION}-")
        assert (await kubectl(*retry[:-1], *off, identity="admin")).code == 0
        cancelled = await kubectl("patch", "order", "unnamed", *cancel[3:])
        assert cancelled.code == 0, cancelled.err
        assert await noted(kubectl, "unnamed") == {}
    finally:
        await plane.start_process("webhook")


async def noted(kubectl: Kubectl, name: str = "tea-and-a-mug") -> dict[str, str]:
    order = (await kubectl("get", "order", name, "-o", "json")).document
    annotations = order["metadata"]["annotations"]
    return {
        annotation: annotations[annotation]
        for annotation in (RETRIED_BY_ANNOTATION, CANCELLED_BY_ANNOTATION)
        if annotation in annotations
    }


async def test_the_process_tells_how_it_is(kubectl: Kubectl, plane: Plane) -> None:
    await kubectl("create", "-f", "-", stdin=an_order())
    async with aiohttp.ClientSession(plane.metrics_url("webhook")) as session:
        async with session.get("/readyz") as answer:
            assert answer.status == 200
        async with session.get("/metrics") as answer:
            text = await answer.text()
    assert 'orderplane_admissions_total{kind="Order",result="admitted"}' in text


async def test_the_log_of_the_webhook_holds_no_personal_data(kubectl: Kubectl, plane: Plane) -> None:
    await kubectl("create", "-f", "-", stdin=an_order())
    log = plane.supervisor.log_of("webhook").read_text()
    assert "tea-and-a-mug" in log
    for secret in ("Ada", "Musterweg", "10115", "pm_card_visa"):
        assert secret not in log
