"""What an object waits for: one decision, and how it is shown."""

import pytest

from orderplane.controllers.engine.backoff import QUIET_SECONDS, FailureState, after_failure
from orderplane.controllers.engine.conditions import find
from orderplane.controllers.engine.delays import Delay, delay_of, delay_shown, with_delay
from orderplane.crds.payment import PaymentStatus
from orderplane.crds.reasons import Reason
from orderplane.ledgers.awaiting import TELL_SECONDS, Awaited, Caller, awaiting, calling, oldest_awaited
from orderplane.ledgers.errors import Transient

from .builders import NOW

SINCE = 100.0
UNCLEAR, UNAVAILABLE = Reason.PAYMENTS_UNCLEAR, Reason.PAYMENTS_UNAVAILABLE
FAILING = FailureState(UNAVAILABLE, "down", SINCE, 3, whom="payments")
CALL = Awaited("payments", "confirm", SINCE)


@pytest.mark.parametrize(
    ("why", "failure", "awaited", "seconds", "expected"),
    [
        ("nothing", None, None, 9.0, None),
        ("a call that may still be answered", None, CALL, TELL_SECONDS - 0.1, None),
        ("a call without an answer", None, CALL, TELL_SECONDS, (UNCLEAR, False, False)),
        ("nobody whom orders wait for", None, Awaited("mail", "send", SINCE), 60.0, None),
        ("a young failure", FAILING, None, QUIET_SECONDS - 0.1, (UNAVAILABLE, False, True)),
        ("it fails", FAILING, None, QUIET_SECONDS, (UNAVAILABLE, False, False)),
        ("it fails, and is being tried", FAILING, CALL, 60.0, (UNAVAILABLE, False, False)),
        (
            "a person has to act: that is told at once",
            FailureState(Reason.CHILD_CONFLICT, "x", SINCE, 1, is_stalled=True),
            None,
            0.0,
            (Reason.CHILD_CONFLICT, True, False),
        ),
    ],
)
def test_what_it_waits_for(
    why: str,
    failure: FailureState | None,
    awaited: Awaited | None,
    seconds: float,
    expected: tuple[Reason, bool, bool] | None,
) -> None:
    delay = delay_of(failure, awaited, SINCE + seconds)
    assert (delay and (delay.reason, delay.is_stalled, delay.is_quiet)) == expected, why


def test_a_failure_is_as_old_as_the_call_that_failed() -> None:
    """A call that took its whole time-out is told at once: nobody has heard of anything for so long."""
    failure = after_failure(None, Transient(UNCLEAR, "no answer"), SINCE + 10, begun=SINCE, whom="payments")
    delay = delay_of(failure, None, SINCE + 10)
    assert delay == Delay(UNCLEAR, "no answer", SINCE, "payments")


def test_since_when_is_said_in_words() -> None:
    delay = Delay(UNCLEAR, "no answer", since=SINCE)
    assert delay.dated(SINCE + 60, 1_767_268_860.0).message == "no answer (since 2026-01-01T12:00:00Z)"
    assert Delay(UNCLEAR, "no answer").dated(SINCE, 0.0).message == "no answer"


def shown(status: PaymentStatus, delay: Delay | None, *, is_under_way: bool = True) -> PaymentStatus:
    return with_delay(status, delay, 1, NOW, is_under_way=is_under_way)


@pytest.mark.parametrize(
    ("why", "delay", "is_under_way", "expected"),
    [
        ("it is done", None, False, ((), None, None)),
        ("it goes on", None, True, ((("Reconciling", Reason.PROGRESSING),), None, None)),
        ("it waits", Delay(UNCLEAR, "x"), True, ((("Reconciling", UNCLEAR),), UNCLEAR, None)),
        ("nothing is left that could wait", Delay(UNCLEAR, "x"), False, ((), None, None)),
        (
            "kstatus takes Stalled for failed, and Reconciling for in progress, whichever comes first",
            Delay(UNCLEAR, "x", is_stalled=True),
            False,
            ((("Stalled", UNCLEAR),), UNCLEAR, True),
        ),
    ],
)
def test_how_it_is_shown(
    why: str,
    delay: Delay | None,
    is_under_way: bool,
    expected: tuple[tuple[tuple[str, str], ...], str | None, bool | None],
) -> None:
    status = shown(PaymentStatus(), delay, is_under_way=is_under_way)
    conditions = tuple((each.type, each.reason) for each in status.conditions)
    assert (conditions, status.reason, status.stalled) == expected, why
    assert shown(status.model_copy(update={"reason": None}), delay, is_under_way=is_under_way) == status, why


def test_what_is_shown_stays_until_it_goes_on() -> None:
    waiting = shown(PaymentStatus(), Delay(UNCLEAR, "x"))
    quiet = Delay(UNAVAILABLE, "y", is_quiet=True)
    assert shown(waiting, quiet) == waiting
    assert delay_shown(shown(PaymentStatus(), quiet).conditions) is None
    over = shown(waiting.model_copy(update={"reason": None}), None)
    assert delay_shown(over.conditions) is None
    assert over.reason is None
    stalled = shown(waiting, Delay(UNCLEAR, "x", is_stalled=True))
    assert find(stalled.conditions, "Reconciling") is None


async def test_a_call_is_known_while_it_is_open() -> None:
    caller = Caller()
    with calling(caller):
        with awaiting("carrier", "buy"):
            assert caller.awaited is not None
            assert (caller.awaited.whom, caller.awaited.what) == ("carrier", "buy")
            assert oldest_awaited()["carrier"] == caller.awaited
        assert caller.awaited is None
        assert caller.last is not None
        assert caller.last.what == "buy"
    with awaiting("carrier", "get"):
        assert caller.awaited is None
    assert "carrier" not in oldest_awaited()
