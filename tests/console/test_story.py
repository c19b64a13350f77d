"""What one order tells people: what it waits for, what can be done, what happened."""

from typing import Any

import pytest

from orderplane.console.story import Deed, advice, deeds, is_finished, kubectl, stalled, story, waits_for
from orderplane.crds.order import OrderPhase
from orderplane.events.types import EventType


def order(phase: str, *, stalled_by: str | None = None, **changes: Any) -> Any:
    conditions = []
    if stalled_by:
        conditions.append({
            "type": "Stalled", "status": "True", "reason": stalled_by, "message": "The provider said no.",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })  # fmt: skip
    return {
        "id": "o-1", "phase": phase, "reason": None, "conditions": conditions, "cancelRequested": False,
        "createdAt": "2026-01-01T00:00:00Z", **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (order("Pending"), (Deed.CANCEL,)),
        (order("Reserved"), (Deed.CANCEL,)),
        (order("Paid", stalled_by="CarrierUnauthorized"), (Deed.CANCEL, Deed.RETRY)),
        # A second cancellation changes nothing.
        (order("Paid", cancelRequested=True), ()),
        # Until the first scan it can be cancelled; the API knows whether that was.
        (order("Shipped"), (Deed.CANCEL, Deed.REFUND)),
        (order("Compensating"), ()),
        (order("Compensating", stalled_by="RefundFailed"), (Deed.RETRY, Deed.SETTLE)),
        (order("Compensating", stalled_by="PaymentsUnavailable"), (Deed.RETRY,)),
        (order("Delivered"), (Deed.REFUND,)),
        (order("Failed"), ()),
        (order("Cancelled", cancelRequested=True), ()),
    ],
)
def test_what_can_be_done(seen: Any, expected: tuple[Deed, ...]) -> None:
    assert deeds(seen) == expected


@pytest.mark.parametrize("phase", list(OrderPhase))
def test_every_order_that_goes_on_says_what_it_waits_for(phase: OrderPhase) -> None:
    assert bool(waits_for(order(phase))) is not is_finished(order(phase))


def test_who_waits_for_a_person_says_why_and_what_to_do() -> None:
    seen = order("Compensating", stalled_by="RefundFailed")
    assert "waits for a person" in waits_for(seen)
    assert "The provider said no." in waits_for(seen)
    assert "Pay the customer back" in advice(seen)
    assert "Resumed" not in advice(seen)
    assert advice(order("Compensating", stalled_by="NewerReason")) == advice(
        order("Paid", stalled_by="PaymentsUnavailable")
    )
    assert advice(order("Paid")) == ""
    over = order("Paid", stalled_by="RefundFailed")
    over["conditions"][0]["status"] = "False"
    assert stalled(over) is None
    slow = order("Reserved")
    slow["conditions"].append({
        "type": "Reconciling", "status": "True", "reason": "PaymentsUnavailable",
        "message": "The payment provider does not answer.", "lastTransitionTime": "2026-01-01T00:00:00Z",
    })  # fmt: skip
    assert waits_for(slow) == "The payment provider does not answer."
    slow["conditions"][0]["reason"] = "Progressing"
    assert waits_for(slow) == waits_for(order("Reserved"))
    assert "decided" in waits_for(order("Paid", cancelRequested=True))


def test_the_story_is_in_the_order_of_time() -> None:
    timeline: Any = {
        "events": [
            {
                "sequence": 1, "type": "order.created", "at": "2026-01-01T00:00:01Z",
                "reason": None, "actor": None,
            },
            {
                "sequence": 2, "type": "order.cancelled", "at": "2026-01-01T00:00:05Z",
                "reason": "CancelRequested", "actor": "user:u-1",
            },
        ],
        "phases": [{"phase": "Compensating", "at": "2026-01-01T00:00:02Z"}],
        "compensation": [{"step": "ReleaseStock", "reference": "r-1", "at": "2026-01-01T00:00:03Z"}],
    }  # fmt: skip
    messages: Any = [
        {
            "event": "order.created", "channel": "email", "state": "Sent", "reason": None,
            "endedAt": "2026-01-01T00:00:04Z",
        },
        {"event": "order.cancelled", "channel": "sms", "state": "Waiting", "reason": None, "endedAt": None},
    ]  # fmt: skip
    entries = story(order("Cancelled"), timeline, messages, [])
    assert [(entry.title, entry.actor) for entry in entries] == [
        ("Placed", None),
        ("Compensation began", None),
        ("Undone: stock", None),
        ("Sent email about order.created", None),
        ("Cancelled; everything was taken back", "user:u-1"),
    ]


@pytest.mark.parametrize("type_", list(EventType))
def test_every_event_has_words_of_its_own(type_: EventType) -> None:
    timeline: Any = {
        "events": [
            {"sequence": 1, "type": type_, "at": "2026-01-01T00:00:01Z", "reason": None, "actor": None}
        ],
        "phases": [], "compensation": [],
    }  # fmt: skip
    (entry,) = story(order("Pending"), timeline, [], [])
    assert entry.title != type_


def test_the_command_for_a_terminal() -> None:
    assert kubectl("demo", "o-1") == "kubectl -n demo describe order o-1"
