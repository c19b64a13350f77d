"""Cancel an order that has left the API server: there is no resource to write the wish into."""

import orjson

from orderplane.crds.order import child_name
from orderplane.crds.reasons import Reason
from orderplane.ledgers.gate import CANCELLED_ON_REQUEST, Gate
from orderplane.ledgers.postgres.gate import compensate
from orderplane.ledgers.postgres.session import Pool, transaction

# The operator listens on this channel; the payload names the resources to reconcile.
_NOTIFY = "SELECT pg_notify('ledger', $1)"


class PostgresCancellations:
    """Decides behind the gate, as any other reason to compensate an order. Raises as `session` does."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def request(self, merchant: str, uid: str, *, actor: str) -> Gate:
        """Have the order compensated, unless the carrier was faster; returns the gate after it.

        Raises:
            GateClosed: the order was never opened.
        """
        async with transaction(self._pool) as connection:
            gate = await compensate(
                connection, merchant, uid,
                reason=Reason.CANCEL_REQUESTED, message=CANCELLED_ON_REQUEST, is_cancel=True, actor=actor,
            )  # fmt: skip
            notification = {"merchant": merchant, "child": child_name(gate.name, uid), "order": gate.name}
            await connection.execute(_NOTIFY, orjson.dumps(notification).decode())
        return gate
