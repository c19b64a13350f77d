"""The archive in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orderplane.ledgers.archive import ArchivedOrder
from orderplane.ledgers.errors import GateClosed
from orderplane.ledgers.gate import Gate
from orderplane.ledgers.model.tables import Ledger, query, transaction


class InMemoryOrderArchive(Ledger):
    """Implements `ledgers.archive.OrderArchive`."""

    @transaction
    def store(self, order: ArchivedOrder, seen: Gate) -> Gate:
        """An order is archived as its ledgers are now; an older version never replaces a newer one."""
        tables, now = self._tables, self._tables.view(order.uid)
        if now is None or now != replace(seen, archived_version=now.archived_version):
            raise GateClosed(f"order {order.uid} has moved")
        if now.archived_version is None or now.archived_version <= order.version:
            tables.gates[order.uid] = replace(tables.gates[order.uid], archived_version=order.version)
            tables.archived[order.uid] = order, now
        after = tables.view(order.uid)
        assert after is not None
        return after

    @query
    def outdated(self, merchant: str, name: str) -> Sequence[Mapping[str, Any]]:
        """Those of that name whose ledgers have moved since."""
        return [order.document for order in self._outdated() if order.name == name]

    @query
    def outdated_keys(self, limit: int) -> Sequence[tuple[str, str]]:
        """Some of them."""
        return [order.key for order in self._outdated()][:limit]

    def outdated_now(self) -> list[tuple[str, str]]:
        """All of them, without a pause."""
        return [order.key for order in self._outdated()]

    def _outdated(self) -> list[ArchivedOrder]:
        found = []
        for uid, (order, seen) in self._tables.archived.items():
            now = self._tables.view(uid)
            if now is not None and replace(now, archived_version=seen.archived_version) != seen:
                found.append(order)
        return found
