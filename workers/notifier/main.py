"""Tell customers what happened to their orders: `python -m orderplane.workers.notifier.main`.

Two halves that share nothing but the ledger: the listener notes what is to be told, the dispatchers, one a
channel, send what is due.
"""

import asyncio
import logging
import sys
from contextlib import AsyncExitStack
from datetime import timedelta

import structlog

from orderplane.adapters.dependencies import postgres
from orderplane.adapters.mail.smtp import SmtpServer
from orderplane.adapters.process import Process, run_process
from orderplane.adapters.retry import wait_for_event
from orderplane.adapters.sms.twilio import TwilioSms
from orderplane.events.notifications import Channel
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.session import Pool
from orderplane.workers.notifier import metrics
from orderplane.workers.notifier.dispatcher import Dispatcher
from orderplane.workers.notifier.listener import Listener
from orderplane.workers.notifier.messengers import ByMail, BySms, Messenger
from orderplane.workers.notifier.store import NotificationStore
from orderplane.workers.settings import NotifierSettings

log = structlog.get_logger(__name__)

COUNT_SECONDS = 2.0
POOL_SIZE = 8


class Notifier:
    """Both halves, and the gauges."""

    def __init__(
        self, settings: NotifierSettings, pool: Pool, messengers: dict[Channel, Messenger | None]
    ) -> None:
        self._book = NotificationStore(pool)
        self._dispatchers = [
            Dispatcher(
                channel,
                messenger,
                self._book,
                lease=timedelta(seconds=settings.notifier_lease_seconds),
                good_for=timedelta(seconds=settings.notifier_good_for_seconds),
            )
            for channel, messenger in messengers.items()
        ]
        self._listener = Listener(settings.kafka, settings.kafka_replication, self._book, self._wake)
        self._needs_kafka = bool(settings.kafka)
        self._is_counting = False

    @property
    def is_ready(self) -> bool:
        """What waits is seen, and events are read where there is a Kafka. A mail server may be away."""
        return self._is_counting and (self._listener.is_listening or not self._needs_kafka)

    async def run(self, stopping: asyncio.Event) -> None:
        """Serve until `stopping` is set, then finish what is in hand."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._count(stopping))
            group.create_task(self._listener.run(stopping))
            for dispatcher in self._dispatchers:
                group.create_task(dispatcher.run())
            await stopping.wait()
            for dispatcher in self._dispatchers:
                dispatcher.stop()

    def _wake(self) -> None:
        for dispatcher in self._dispatchers:
            dispatcher.wake()

    async def _count(self, stopping: asyncio.Event) -> None:
        """Keep the gauges true, also while nothing can be sent."""
        while not stopping.is_set():
            try:
                waiting = {count.channel: count for count in await self._book.waiting()}
                self._is_counting = True
            except Transient as problem:
                self._is_counting = False
                log.debug("what waits cannot be counted", why=problem.reason)
            else:
                for channel in Channel:
                    count = waiting.get(channel)
                    metrics.WAITING.labels(channel.value).set(count.messages if count else 0)
                    metrics.OLDEST.labels(channel.value).set(count.oldest_seconds if count else 0)
            await wait_for_event(stopping, COUNT_SECONDS)


async def serve(settings: NotifierSettings, process: Process) -> None:
    """Send messages until the process is asked to stop; then finish what is in hand."""
    # It would write twenty lines a second while a broker is away; its failures reach us as exceptions.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    async with AsyncExitStack() as stack:
        messengers: dict[Channel, Messenger | None] = dict.fromkeys(Channel)
        if settings.smtp_url and settings.mail_from:
            server = await stack.enter_async_context(SmtpServer(settings.smtp_url.get_secret_value()))
            messengers[Channel.EMAIL] = ByMail(server, settings.mail_from)
        if settings.sms_key and settings.sms_from:
            sms = TwilioSms(settings.sms_key.get_secret_value(), settings.sms_from, settings.sms_url)
            messengers[Channel.SMS] = BySms(await stack.enter_async_context(sms))
        pool = await stack.enter_async_context(postgres(process, settings, size=POOL_SIZE, plans_once=True))
        notifier = Notifier(settings, pool, messengers)
        process.serving(
            lambda: notifier.is_ready,
            kafka=settings.kafka,
            channels=[channel.value for channel, messenger in messengers.items() if messenger],
        )
        await notifier.run(process.stopping)


def main() -> int:
    """Run the notifier; returns the exit code."""
    return run_process("notifier", NotifierSettings, serve)


if __name__ == "__main__":
    sys.exit(main())
