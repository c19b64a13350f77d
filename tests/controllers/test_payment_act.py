"""What a Payment has told of its order."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orderplane.controllers.engine.cluster import Cluster
from orderplane.controllers.engine.queue import Key
from orderplane.controllers.payment.act import PaymentReconciler
from orderplane.crds.meta import ApiModel, Kind
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.model.gate import InMemoryGateLedger
from orderplane.ledgers.model.payments import InMemoryPaymentLedger
from orderplane.ledgers.model.tables import Tables
from orderplane.ledgers.states import GateState, PaymentState, RefundState

from .builders import UID, a_child, a_payment_entry, an_order, refunds

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class WritesOnly(Cluster):
    """Takes each status."""

    async def write_status(self, kind: Kind, resource: Any, status: ApiModel) -> None:
        self.cache(kind).store(
            {
                **resource.model_dump(mode="json", by_alias=True),
                "status": status.model_dump(mode="json", by_alias=True),
            }
        )


async def no_pause(_: str) -> None:
    """Nothing else runs here."""


@pytest.mark.parametrize(
    ("state", "told"), [(RefundState.PENDING, []), (RefundState.FAILED, [Kind.ORDER])], ids=str
)
async def test_the_order_hears_of_a_failed_refund_after_the_payment_shows_it(
    state: RefundState, told: list[Kind]
) -> None:
    order = an_order()
    payment = a_child(Kind.PAYMENT, order=order)
    key = payment.key
    cluster: Any = WritesOnly(None, lambda: 0.0, lambda *_: None)  # type: ignore[arg-type]
    cluster.payments.store(payment.model_dump(mode="json", by_alias=True))
    tables = Tables(now=lambda: NOW, pause=no_pause)
    tables.gates[UID] = Gate(key[0], UID, "tea", GateState.COMPENSATING, payment=PaymentState.CAPTURED)
    tables.payments[UID] = a_payment_entry(
        PaymentState.CAPTURED, captured=1000, refunds=refunds(state, "closed")
    )
    enqueued: list[tuple[Kind, Key]] = []
    reconciler = PaymentReconciler(
        cluster,
        InMemoryGateLedger(tables),
        InMemoryPaymentLedger(tables),
        None,  # type: ignore[arg-type]
        lambda kind, key, *_, **__: enqueued.append((kind, key)),
        lambda: NOW,
        operator="operator-0",
        settle=timedelta(seconds=20),
    )
    reconciler._entries[key] = tables.payments[UID]
    await reconciler.write_status(key, None)
    assert [kind for kind, _ in enqueued] == told
