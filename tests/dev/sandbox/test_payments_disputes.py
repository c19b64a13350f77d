"""The rules of disputes in the payment sandbox."""

import pytest

from orderplane.dev.sandbox.payments import disputes
from orderplane.dev.sandbox.payments.disputes import Dispute, DisputeStatus
from orderplane.dev.sandbox.payments.intents import Intent, Status, WrongState

CHARGED = Intent("pi_1", 1999, "eur", "pm_card_visa", 0, Status.SUCCEEDED)


def opened(status: DisputeStatus = DisputeStatus.NEEDS_RESPONSE, amount: int | None = None) -> Dispute:
    return disputes.open_dispute("du_1", CHARGED, amount, status, 1.0)


def test_a_dispute_is_for_all_of_the_charge_or_for_a_part() -> None:
    assert (opened().amount, opened(amount=500).amount) == (1999, 500)


def test_what_was_not_charged_is_not_disputed() -> None:
    unconfirmed = Intent("pi_1", 1999, "eur", "pm_card_visa", 0)
    with pytest.raises(WrongState):
        disputes.open_dispute("du_1", unconfirmed, None, DisputeStatus.NEEDS_RESPONSE, 1.0)


@pytest.mark.parametrize(
    ("status", "evidence", "after"),
    [
        (DisputeStatus.NEEDS_RESPONSE, "winning_evidence", DisputeStatus.WON),
        (DisputeStatus.NEEDS_RESPONSE, "losing_evidence", DisputeStatus.LOST),
        (DisputeStatus.NEEDS_RESPONSE, "a letter", DisputeStatus.UNDER_REVIEW),
        (DisputeStatus.UNDER_REVIEW, "winning_evidence", DisputeStatus.WON),
        (DisputeStatus.WARNING_NEEDS_RESPONSE, "a letter", DisputeStatus.WARNING_CLOSED),
    ],
)
def test_evidence_decides(status: DisputeStatus, evidence: str, after: DisputeStatus) -> None:
    assert disputes.answer(opened(status), evidence).status is after


@pytest.mark.parametrize("status", [DisputeStatus.WON, DisputeStatus.LOST, DisputeStatus.WARNING_CLOSED])
def test_a_decided_dispute_stays_as_it_is(status: DisputeStatus) -> None:
    with pytest.raises(WrongState):
        disputes.close(opened(status))
    with pytest.raises(WrongState):
        disputes.answer(opened(status), "winning_evidence")


def test_an_accepted_dispute_is_lost() -> None:
    assert disputes.close(opened()).status is DisputeStatus.LOST


@pytest.mark.parametrize("status", DisputeStatus)
def test_a_charge_is_not_refunded_while_its_money_is_away(status: DisputeStatus) -> None:
    is_away = status in ("needs_response", "under_review", "lost")
    assert disputes.is_charged_back([opened(status)]) == is_away
