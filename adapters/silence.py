"""Tell who does not answer this process: a log line for each of them, and the seconds as a metric."""

import asyncio
import time
from functools import partial

import structlog
from prometheus_client import Gauge

from orderplane.adapters.halves import Beat
from orderplane.ledgers.awaiting import TELL_SECONDS, oldest_awaited

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5

AWAITED = Gauge(
    "orderplane_awaited_seconds",
    "How long the oldest call without an answer has been waiting, by who has to answer; 0 where none waits.",
    ["whom"],
)
WHOM = ("postgres", "kubernetes", "kafka", "payments", "carrier", "mail", "sms")


def silences() -> dict[str, float]:
    """The seconds of silence of everybody who has to answer this process."""
    now = time.monotonic()
    return {whom: now - awaited.since for whom, awaited in oldest_awaited().items()}


def _silence(whom: str) -> float:
    return silences().get(whom, 0.0)


for _whom in WHOM:
    AWAITED.labels(_whom).set_function(partial(_silence, _whom))


async def tell_silences(beat: Beat) -> None:
    """Log once when somebody does not answer, and once when it is over, until cancelled."""
    silent: set[str] = set()
    while True:
        beat()
        now_silent = {whom for whom, seconds in silences().items() if seconds >= TELL_SECONDS}
        for whom in sorted(now_silent - silent):
            log.warning("no answer", whom=whom, what=oldest_awaited()[whom].what)
        for whom in sorted(silent - now_silent):
            log.info("answers again, or is not asked any more", whom=whom)
        silent = now_silent
        await asyncio.sleep(LOOK_SECONDS)
