"""Who is notified of what, through which channel, and what follows an attempt."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from orderplane.events.notifications import Channel
from orderplane.events.types import EventType
from orderplane.ledgers.errors import Refused, Transient, Unclear
from orderplane.workers.notifier.plan import (
    CHANNELS,
    Final,
    Notification,
    Recipient,
    Retry,
    State,
    Unknown,
    after_failure,
    final_unsent,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NOTIFICATION = Notification(
    merchant="demo", event_id=UUID(int=1), channel=Channel.EMAIL, type=EventType.ORDER_CREATED, order="o-1",
    data={}, traceparent=None, attempt=1, unknown_attempts=0, pending_since=NOW, tried_for=timedelta(),
    is_forced=False, is_overtaken=False,
    recipient=Recipient("Ada", "ada@example.org", is_wanting=True),
)  # fmt: skip
UNWANTED = Recipient("Ada", "ada@example.org", is_wanting=False)
NOWHERE = Recipient("Ada", None, is_wanting=True)
UNCONFIRMED = Recipient("Ada", None, is_wanting=True, has_unconfirmed=True)


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({}, None),
        ({"unknown_attempts": 3, "attempt": 9}, None),
        ({"recipient": None}, Final(State.SKIPPED, "NoAccount")),
        ({"recipient": UNWANTED}, Final(State.SKIPPED, "NotWanted")),
        ({"recipient": NOWHERE}, Final(State.SKIPPED, "NoAddress")),
        ({"recipient": UNCONFIRMED}, Final(State.SKIPPED, "NotConfirmed")),
        ({"is_overtaken": True}, Final(State.SUPERSEDED, "LaterWasSent")),
        ({"is_overtaken": True, "is_forced": True}, None),
        ({"is_forced": True, "recipient": UNWANTED}, Final(State.SKIPPED, "NotWanted")),
        ({"is_forced": True, "recipient": None}, Final(State.SKIPPED, "NoAccount")),
        ({"tried_for": DAY}, None),
        ({"tried_for": DAY + timedelta(seconds=1)}, Final(State.DEAD, "GivenUp")),
        ({"tried_for": 2 * DAY, "is_overtaken": True}, Final(State.SUPERSEDED, "LaterWasSent")),
        ({"tried_for": 2 * DAY, "recipient": None}, Final(State.SKIPPED, "NoAccount")),
        # No notifier ran for a week: nobody has tried it yet.
        ({"pending_since": NOW - 7 * DAY}, None),
    ],
)
def test_what_is_not_sent_after_all(changes, end):
    assert final_unsent(replace(NOTIFICATION, **changes), DAY) == end


def test_a_refusal_ends_it_and_an_unknown_result_keeps_it():
    rng = random.Random(1)
    assert after_failure(Refused("RecipientRefused", "no"), 1, rng) == Final(State.DEAD, "RecipientRefused")
    assert after_failure(Unclear("SmsUnclear", "?"), 1, rng) == Unknown("SmsUnclear")


@pytest.mark.parametrize(("attempt", "least", "most"), [(1, 0.125, 0.25), (4, 1.0, 2.0), (50, 15.0, 30.0)])
def test_pauses_grow_to_their_bound(attempt, least, most):
    rng = random.Random(2)
    for _ in range(50):
        outcome = after_failure(Transient("MailUnavailable", "gone"), attempt, rng)
        assert isinstance(outcome, Retry)
        assert timedelta(seconds=least) <= outcome.pause <= timedelta(seconds=most)


def test_a_pause_that_was_asked_for_is_kept():
    outcome = after_failure(Transient("SmsBusy", "wait", retry_after=7.0), 1, random.Random(3))
    assert outcome == Retry("SmsBusy", timedelta(seconds=7))


def test_every_message_can_go_by_mail():
    assert all(Channel.EMAIL in channels for channels in CHANNELS.values())
