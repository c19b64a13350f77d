"""The condition `Delivered`, which an Order and its Shipment have in common. Pure."""

from collections.abc import Mapping

from orderplane.controllers.engine.conditions import Fact, find
from orderplane.crds.meta import Condition
from orderplane.crds.reasons import Reason
from orderplane.ledgers.states import TrackingStatus

_TYPE = "Delivered"

TROUBLES: Mapping[TrackingStatus, Fact] = {
    TrackingStatus.RETURNED: Fact(_TYPE, "False", Reason.RETURNED, "The carrier is bringing it back."),
    TrackingStatus.FAILED: Fact(
        _TYPE, "False", Reason.DELIVERY_FAILED, "The carrier could not deliver it, or has lost it."
    ),
    TrackingStatus.CANCELLED: Fact(
        _TYPE, "False", Reason.TRANSPORT_CANCELLED, "The carrier has cancelled its transport; ask there."
    ),
    TrackingStatus.UNCLEAR: Fact(
        _TYPE, "False", Reason.TRACKING_UNCLEAR, "The carrier's tracking cannot be read; look at its page."
    ),
}
"""What is said of a parcel that has left and may not reach the customer, by `states.NOT_DELIVERED`."""


def delivered_fact(status: TrackingStatus, before: tuple[Condition, ...]) -> Fact | None:
    """What is known of the delivery; None while the parcel is on its way, or at home.

    Args:
        before: The conditions that are shown now: trouble that is over is taken back.
    """
    if status is TrackingStatus.DELIVERED:
        return Fact(_TYPE, "True", Reason.DELIVERED, "The carrier has delivered it.")
    if status is TrackingStatus.IN_TRANSIT and find(before, _TYPE) is not None:
        return Fact(_TYPE, "False", Reason.RESUMED, "It is on its way again.")
    return TROUBLES.get(status)
