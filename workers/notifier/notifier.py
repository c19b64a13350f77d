"""The notifier: a listener adds the messages of events, and dispatchers for each channel send them.

They share nothing but the database, so each goes on while the other waits for Kafka or a provider.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from prometheus_client import Gauge

from orderplane.adapters.halves import Beat, Half
from orderplane.events.notifications import Channel
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.session import Pool
from orderplane.workers.notifier.account_plan import AccountMessage, final_unsent_account_message
from orderplane.workers.notifier.account_store import AccountMessageStore
from orderplane.workers.notifier.channels import Messenger
from orderplane.workers.notifier.dispatcher import Dispatcher
from orderplane.workers.notifier.listener import Listener
from orderplane.workers.notifier.plan import Final, Notification, final_unsent
from orderplane.workers.notifier.store import NotificationStore
from orderplane.workers.settings import NotifierSettings

log = structlog.get_logger(__name__)

COUNT_SECONDS = 2.0

WAITING = Gauge("orderplane_notifications_waiting", "Messages that are not sent yet.", ["channel"])
OLDEST = Gauge(
    "orderplane_notifications_oldest_age_seconds", "Age of the oldest message that is not sent.", ["channel"]
)


@dataclass(frozen=True, slots=True)
class Messengers:
    """By channel; None for a channel that is not offered here."""

    of_orders: Mapping[Channel, Messenger[Notification] | None]
    of_accounts: Mapping[Channel, Messenger[AccountMessage] | None]


def _final_unsent_notification(message: Notification, _: datetime, good_for: timedelta) -> Final | None:
    return final_unsent(message, good_for)


class Notifier:
    """The listener, the dispatchers and the gauges.

    Args:
        messengers: Of notifications, and of messages about accounts.
    """

    def __init__(self, settings: NotifierSettings, pool: Pool, messengers: Messengers) -> None:
        self._store = NotificationStore(pool)
        account_messages = AccountMessageStore(pool)
        times = {
            "lease": timedelta(seconds=settings.notifier_lease_seconds),
            "good_for": timedelta(seconds=settings.notifier_good_for_seconds),
        }
        self._of_orders = {
            f"orders by {channel.value}": Dispatcher(
                channel,
                messenger,
                self._store,
                lambda message, _, good: final_unsent(message, good),
                **times,
            )
            for channel, messenger in messengers.of_orders.items()
        }
        # Somebody waits for a link, so it does not wait behind what many orders have to tell.
        self._of_accounts = {
            f"accounts by {channel.value}": Dispatcher(
                channel, messenger, account_messages, final_unsent_account_message, **times
            )
            for channel, messenger in messengers.of_accounts.items()
        }
        self._listener: Listener | None = None
        if settings.kafka:
            self._listener = Listener(settings.kafka, settings.kafka_replication, self._store, self._wake)
        else:
            log.warning("no Kafka is configured; no new events are read")
        self._is_counting = False

    @property
    def is_ready(self) -> bool:
        """Whether waiting messages are counted, and with Kafka, events read. Providers may be down."""
        return self._is_counting and (self._listener is None or self._listener.is_listening)

    def halves(self, stopping: asyncio.Event) -> list[Half]:
        """What has to run until `stopping` is set; then each finishes what is in hand."""
        dispatchers: list[tuple[str, Dispatcher[Notification] | Dispatcher[AccountMessage]]] = [
            *self._of_orders.items(),
            *self._of_accounts.items(),
        ]
        halves = [Half(name, dispatcher.run, finish=dispatcher.stop) for name, dispatcher in dispatchers]
        halves.append(Half("count", self._count))
        if self._listener is not None:
            halves.append(Half("listen", partial(self._listener.run, stopping), finish=stopping.set))
        return halves

    def _wake(self) -> None:
        for dispatcher in self._of_orders.values():
            dispatcher.wake()

    async def _count(self, beat: Beat) -> None:
        """Update the gauges, also while nothing can be read or sent, until cancelled."""
        while True:
            beat()
            if self._listener is not None:
                self._listener.measure_lag()
            try:
                waiting = {count.channel: count for count in await self._store.waiting()}
                self._is_counting = True
            except Transient as problem:
                self._is_counting = False
                log.debug("waiting messages cannot be counted", why=problem.reason)
            else:
                for channel in Channel:
                    count = waiting.get(channel)
                    WAITING.labels(channel.value).set(count.messages if count else 0)
                    OLDEST.labels(channel.value).set(count.oldest_seconds if count else 0)
            await asyncio.sleep(COUNT_SECONDS)
