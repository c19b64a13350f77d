"""Tell customers what happened to their orders: `python -m orderplane.workers.notifier.main`.

Two halves that share nothing but the ledger: the listener notes what is to be told, the dispatchers, one a
channel, send what is due.
"""

import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack

import asyncpg
import structlog
import uvloop

from orderplane.adapters.garbage import spare_what_stays
from orderplane.adapters.mail.smtp import SmtpServer
from orderplane.adapters.postgres.pool import open_pool
from orderplane.adapters.sms.twilio import TwilioSms
from orderplane.adapters.telemetry.http import serve_telemetry
from orderplane.adapters.telemetry.logs import set_up_logs
from orderplane.adapters.telemetry.traces import set_up_traces
from orderplane.events.notifications import Channel
from orderplane.ledgers.errors import Transient
from orderplane.ledgers.postgres.session import Pool
from orderplane.workers.notifier import metrics
from orderplane.workers.notifier.dispatcher import Dispatcher
from orderplane.workers.notifier.listener import Listener
from orderplane.workers.notifier.messengers import ByMail, BySms, Messenger
from orderplane.workers.notifier.settings import Settings
from orderplane.workers.notifier.store import NotificationStore
from orderplane.workers.settings import SettingsWrong
from orderplane.workers.waiting import happens

log = structlog.get_logger(__name__)

COUNT_SECONDS = 2.0
CLOSE_SECONDS = 5.0
POOL_SIZE = 8


class Notifier:
    """Both halves, and the gauges."""

    def __init__(self, settings: Settings, pool: Pool, messengers: dict[Channel, Messenger | None]) -> None:
        self._book = NotificationStore(pool)
        self._dispatchers = [
            Dispatcher(channel, messenger, self._book, lease=settings.lease, good_for=settings.good_for)
            for channel, messenger in messengers.items()
        ]
        self._listener = Listener(
            settings.common.kafka, settings.common.kafka_replication, self._book, self._wake
        )
        self._needs_kafka = bool(settings.common.kafka)
        self._stopping = asyncio.Event()
        self._is_counting = False

    @property
    def is_ready(self) -> bool:
        """What waits is seen, and events are read where there is a Kafka. A mail server may be away."""
        return self._is_counting and (self._listener.is_listening or not self._needs_kafka)

    def stop(self) -> None:
        """Finish what is in hand, then end."""
        self._stopping.set()
        self._listener.stop()
        for dispatcher in self._dispatchers:
            dispatcher.stop()

    async def run(self) -> None:
        """Serve until `stop`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._count())
            group.create_task(self._listener.run())
            for dispatcher in self._dispatchers:
                group.create_task(dispatcher.run())

    def _wake(self) -> None:
        for dispatcher in self._dispatchers:
            dispatcher.wake()

    async def _count(self) -> None:
        """Keep the gauges true, also while nothing can be sent."""
        while not self._stopping.is_set():
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
            await happens(self._stopping, within=COUNT_SECONDS)


async def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then finish what is in hand."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        messengers: dict[Channel, Messenger | None] = dict.fromkeys(Channel)
        if settings.smtp_url:
            server = await stack.enter_async_context(SmtpServer(settings.smtp_url))
            messengers[Channel.EMAIL] = ByMail(server, settings.mail_from)
        if settings.sms_key:
            sms = TwilioSms(settings.sms_key, settings.sms_from, settings.sms_url)
            messengers[Channel.SMS] = BySms(await stack.enter_async_context(sms))
        pool = await open_pool(settings.common.postgres_dsn, size=POOL_SIZE, plans_once=True)
        stack.push_async_callback(_close, pool)
        notifier = Notifier(settings, pool, messengers)
        await stack.enter_async_context(
            serve_telemetry(settings.common.metrics_port, is_ready=lambda: notifier.is_ready)
        )
        running = asyncio.create_task(notifier.run())
        ending = asyncio.create_task(stopped.wait())
        await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        notifier.stop()
        await running


async def _close(pool: Pool) -> None:
    async with asyncio.timeout(CLOSE_SECONDS):
        await pool.close()


def main() -> int:
    """Run the notifier; answers the exit status."""
    set_up_logs("notifier")
    # It would write twenty lines a second while a broker is away; its failures reach us as exceptions.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    set_up_traces("notifier")
    try:
        settings = Settings.from_env()
        spare_what_stays()
        uvloop.run(run(settings))
    except (SettingsWrong, ValueError) as problem:
        log.error("the notifier cannot start", why=str(problem))
        return 2
    except (OSError, asyncpg.PostgresError) as problem:
        log.error("the notifier cannot reach PostgreSQL; start it again", why=type(problem).__name__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
