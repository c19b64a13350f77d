"""Reasons: the one word that says why, in conditions, statuses, gate rows, events, logs and metrics.

A reason is part of the API: programs compare it, so a value never changes and is never used for something
else. `docs/reasons.md` is made of this module: `python -m orderplane.crds.reasons > docs/reasons.md`.
"""

import sys
from enum import StrEnum

from orderplane.crds.meta import Kind


class Reason(StrEnum):
    """Every reason that this system sets; `meaning` is the sentence that the documentation shows."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Reason":
        """A member is its value; the meaning goes along."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # Forward: what a step has reached.
    STOCK_HELD = "StockHeld", "Every item is reserved."
    STOCK_COMMITTED = "StockCommitted", "The goods have left the stock."
    PAYMENT_CAPTURED = "PaymentCaptured", "The whole amount was captured."
    LABEL_BOUGHT = "LabelBought", "The carrier has sold the label."
    DELIVERED = "Delivered", "The carrier has delivered the parcel."
    RETURNED = "Returned", "The carrier is bringing the parcel back."
    DELIVERY_FAILED = "DeliveryFailed", "The carrier could not deliver the parcel, or has lost it."
    TRANSPORT_CANCELLED = "TransportCancelled", "The carrier has cancelled the transport of the parcel."
    TRACKING_UNCLEAR = (
        "TrackingUnclear",
        "The carrier's tracking is broken, or says what is not documented; a person has to look.",
    )
    ALREADY_IN_TRANSIT = "AlreadyInTransit", "It was cancelled after the carrier's first scan: too late."

    # Why an order is compensated.
    DELETED = "Deleted", "The Order was deleted before the carrier had it."
    CANCEL_REQUESTED = "CancelRequested", "Somebody has asked to cancel the order."
    OUT_OF_STOCK = "OutOfStock", "There is not enough stock for every item."
    RESERVATION_EXPIRED = "ReservationExpired", "The reservation ended before a payment was begun."
    STOCK_LOST = "StockLost", "A recount found less stock than was reserved."
    PAYMENT_DECLINED = "PaymentDeclined", "The payment was declined, and the provider does not say why."
    SHIPMENT_REFUSED = "ShipmentRefused", "The carrier refused the shipment, and does not say why."
    RESERVATION_DELETED = (
        "ReservationDeleted",
        "The order's Reservation was deleted before the order ended.",
    )
    PAYMENT_DELETED = "PaymentDeleted", "The order's Payment was deleted before the order ended."
    SHIPMENT_DELETED = "ShipmentDeleted", "The order's Shipment was deleted before the order ended."
    RESERVATION_MISSING = "ReservationMissing", "The order's Reservation vanished, its finalizer torn off."
    PAYMENT_MISSING = "PaymentMissing", "The order's Payment vanished, its finalizer torn off."
    SHIPMENT_MISSING = "ShipmentMissing", "The order's Shipment vanished, its finalizer torn off."
    ORDER_MISSING = "OrderMissing", "The Order vanished before it was finished, its finalizer torn off."
    NAMESPACE_TERMINATING = "NamespaceTerminating", "The namespace is being deleted; no child can be created."
    UNKNOWN = "Unknown", "The order is compensated and its row gives no reason."

    # What a provider answers about a payment or a shipment.
    CARD_DECLINED = "CardDeclined", "The bank declined the card."
    INSUFFICIENT_FUNDS = "InsufficientFunds", "The account does not hold enough money."
    EXPIRED_CARD = "ExpiredCard", "The card has expired."
    INCORRECT_CVC = "IncorrectCvc", "The security code is wrong."
    AUTHENTICATION_REQUIRED = "AuthenticationRequired", "The bank asks the customer to confirm the payment."
    PAYMENT_CANCELLED = "PaymentCancelled", "The payment intent was cancelled; no money was captured."
    PAYMENT_REJECTED = "PaymentRejected", "The payment provider rejected the request itself."
    AMOUNT_MISMATCH = "AmountMismatch", "The Payment asks for another amount than the order's total."
    ADDRESS_REJECTED = "AddressRejected", "The carrier does not deliver to this address."
    NO_RATE = "NoRate", "No carrier offers a service to this address."
    NO_PICKUP = "NoPickup", "No carrier offers to collect these parcels."
    SHIPMENT_REJECTED = "ShipmentRejected", "The carrier rejected the shipment."
    ALREADY_BOUGHT = "AlreadyBought", "The label of this shipment was bought before."

    # Backward: what compensation has reached.
    STOCK_RELEASED = "StockReleased", "The stock was given back."
    STOCK_EXPIRED = "StockExpired", "The reservation's time was over, and the stock was given back."
    REFUNDED = "Refunded", "The whole amount was refunded."
    REFUND_FAILED = "RefundFailed", "The provider failed the refund; a person has to act."
    LABEL_VOIDED = "LabelVoided", "The carrier took the label back."
    SHIPMENT_CANCELLED = "ShipmentCancelled", "No label was bought, and none can be any more."
    VOID_NONE = "VoidNone", "The label is void, and the carrier's answer was not kept."
    VOID_SUBMITTED = "VoidSubmitted", "The carrier accepted the void; the label's cost is settled later."
    VOID_REFUNDED = "VoidRefunded", "The carrier accepted the void and refunded the label's cost."
    VOID_REJECTED = (
        "VoidRejected",
        "The carrier rejected the void: the label was used, or is too old; a person has to act.",
    )
    VOID_NOT_APPLICABLE = "VoidNotApplicable", "The label is void, and its cost is not refunded."
    VOID_SETTLED_BY_HAND = "VoidSettledByHand", "A person made sure that the label is not used."

    # Kubernetes Events about an Order that are not named after a condition.
    COMPENSATING = "Compensating", "The order is compensated."
    TOO_LATE_TO_CANCEL = "TooLateToCancel", "A cancel came after the carrier's first scan."
    CANCEL_SHIPMENT_DONE = "CancelShipmentDone", "The label was voided, or none can be bought any more."
    CANCEL_PAYMENT_DONE = "CancelPaymentDone", "The payment was cancelled before money was captured."
    REFUND_PAYMENT_DONE = "RefundPaymentDone", "The payment was refunded."
    RELEASE_STOCK_DONE = "ReleaseStockDone", "The stock was given back."

    # Why it does not get on now; it is tried again, or waits for a person.
    PROGRESSING = "Progressing", "It is being worked on, and nothing keeps it waiting."
    RESUMED = "Resumed", "It gets on again."
    WAITING = "Waiting", "A Kubernetes Event: the order waits; its message says for what."
    LEDGER_UNAVAILABLE = "LedgerUnavailable", "PostgreSQL cannot be reached."
    API_SERVER_UNAVAILABLE = "ApiServerUnavailable", "The API server cannot be reached, or failed."
    STATUS_NOT_WRITTEN = (
        "StatusNotWritten",
        "The API server refuses the status of this object, so what it shows is old; the message says why.",
    )
    INTERNAL_ERROR = "InternalError", "A bug; the process's log has the traceback."
    CHILD_CONFLICT = (
        "ChildConflict",
        "Another object has the name of the order's child; a person has to act.",
    )
    NOT_AS_PLANNED = "NotAsPlanned", "The child is not what its order asks for; a person has to act."
    ORDER_UNKNOWN = "OrderUnknown", "The child's order is not in the cache yet."
    STOCK_NOT_HELD = "StockNotHeld", "A payment was asked for, but no stock is held for the order."
    STOCK_NOT_PINNED = "StockNotPinned", "A label was asked for, but the order's stock is not pinned."
    NOT_PAID = "NotPaid", "A label was asked for, but the order is not paid in full."
    PAYMENT_PROCESSING = (
        "PaymentProcessing",
        "The payment provider works on the payment; what depends on it has to wait.",
    )
    PAYMENT_DISPUTED = (
        "PaymentDisputed",
        "The customer's bank has the money until the dispute is decided; then what is left is refunded.",
    )
    REFUND_PENDING = "RefundPending", "The payment provider has not settled a refund yet; it may still fail."
    PAYMENT_UNKNOWN = (
        "PaymentUnknown",
        "The payment provider does not know the payment: our key is of another account.",
    )
    STRAY_LABEL = "StrayLabel", "A label was bought after it was settled that there is none; it is voided."
    STRAY_PARCEL = "StrayParcel", "A parcel travels although its order was undone; a person has to act."
    OPERATOR_PAUSED = (
        "OperatorPaused",
        "The operator stood still before it sent a request; it looks again before it sends one.",
    )
    LABEL_UNSETTLED = (
        "LabelUnsettled",
        "A label was asked for, and its purchase may still reach the carrier: nothing is given back before.",
    )
    VOID_UNANSWERED = "VoidUnanswered", "The carrier has not answered the request to void the label."
    PAYMENTS_UNAVAILABLE = "PaymentsUnavailable", "The payment provider cannot be reached."
    PAYMENTS_UNCLEAR = (
        "PaymentsUnclear",
        "The payment provider did not say whether it did what was asked.",
    )
    PAYMENTS_BUSY = "PaymentsBusy", "The payment provider asks to wait."
    PAYMENTS_UNAUTHORIZED = "PaymentsUnauthorized", "The payment provider refuses our key."
    CARRIER_UNAVAILABLE = "CarrierUnavailable", "The carrier cannot be reached."
    CARRIER_UNCLEAR = "CarrierUnclear", "The carrier did not say whether it did what was asked."
    CARRIER_BUSY = "CarrierBusy", "The carrier asks to wait."
    CARRIER_UNAUTHORIZED = "CarrierUnauthorized", "The carrier refuses our key, or our account has no funds."

    # Refunds after the sale.
    NOT_SHIPPED = "NotShipped", "The carrier never had the order, so there is nothing to give back after it."
    REFUND_TOO_LARGE = "RefundTooLarge", "More was asked back than is left of the payment."
    NOT_ORDERED = "NotOrdered", "More pieces were named than the order has, or than are left of it."
    NOT_COUNTED_SO = "NotCountedSo", "The payment provider does not count so small a part of the currency."
    LINES_MISSING = "LinesMissing", "Goods were said to be back, and not which."
    NOTHING_TO_REFUND = "NothingToRefund", "Nothing is left to give back."
    TOO_MANY_REFUNDS = "TooManyRefunds", "The order has as many refunds as one may have."
    REFUND_REFUSED = "RefundRefused", "A refund was asked for that cannot be made."
    REFUND_MADE = "RefundMade", "The customer has the money of a refund again."
    PARTLY_REFUNDED = "PartlyRefunded", "A part of the amount was refunded."

    # Messages to customers.
    MAILBOX_UNAVAILABLE = "MailboxUnavailable", "The mail sink cannot be read."
    MAIL_UNAVAILABLE = "MailUnavailable", "The mail server cannot be reached."
    MAIL_UNCLEAR = "MailUnclear", "The mail server did not say whether it took the mail."
    MAIL_DEFERRED = "MailDeferred", "The mail server asks to try again later."
    MAIL_UNAUTHORIZED = "MailUnauthorized", "The mail server refuses our account."
    RECIPIENT_REFUSED = "RecipientRefused", "The mail server, or the format of mails, refuses the address."
    MESSAGE_REFUSED = "MessageRefused", "The mail server refuses the message."
    SMS_UNAVAILABLE = "SmsUnavailable", "The SMS provider cannot be reached."
    SMS_UNCLEAR = "SmsUnclear", "The SMS provider did not say whether it took the message."
    SMS_BUSY = "SmsBusy", "The SMS provider asks to wait."
    SMS_UNAUTHORIZED = "SmsUnauthorized", "The SMS provider refuses our account."
    TEMPLATE_FAILED = "TemplateFailed", "A template cannot be rendered; correct it, then replay the event."
    SMS_REFUSED = "SmsRefused", "The SMS provider refuses the message."


def deleted(kind: Kind) -> Reason:
    """Somebody deleted this child of an order that was not finished."""
    return Reason[f"{kind.name}_DELETED"]


def missing(kind: Kind) -> Reason:
    """This child of an order vanished without its controller."""
    return Reason[f"{kind.name}_MISSING"]


def document() -> str:
    """The reasons as Markdown, one line each."""
    lines = [f"| `{reason}` | {reason.meaning} |" for reason in sorted(Reason, key=str)]
    return "\n".join(("# Reasons", "", _PREFACE, "", "| reason | meaning |", "|---|---|", *lines, ""))


_PREFACE = """\
The one word that says why: in the conditions and `status.reason` of our resources, in events, Kubernetes
Events, logs and metrics. A value never changes its meaning. This page is made from `crds/reasons.py`: change
it there, then run `python -m orderplane.crds.reasons > docs/reasons.md`."""


if __name__ == "__main__":
    sys.stdout.write(document())
