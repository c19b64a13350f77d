"""EasyPost as the carrier, through its SDK.

A shipment is created first, which is free, and its label bought later: https://docs.easypost.com/docs/shipments.
"""

import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self, TypeVar

import aiohttp
from easypost.easypost_client import EasyPostClient
from easypost.errors.api.api_error import ApiError
from easypost.errors.api.http_error import HttpError
from easypost.errors.api.timeout_error import TimeoutError as EasyPostTimeout
from easypost.errors.general.easypost_error import EasyPostError

from orderplane.adapters.carriers import sdk_on_loop
from orderplane.adapters.carriers.easypost_rates import choose_rate, read_price
from orderplane.adapters.providers import NEVER_SENT, RECOVERY_SECONDS, ProviderCalls, open_session
from orderplane.controllers.shipment.ports import CarrierShipment, TrackingUpdate
from orderplane.crds.order import Address
from orderplane.crds.reasons import Reason
from orderplane.crds.shipment import Parcel, Service
from orderplane.ledgers.errors import Refused, Transient, Unclear
from orderplane.ledgers.shipments import Label
from orderplane.ledgers.states import TrackingStatus, VoidState

T = TypeVar("T")

PAGE_SIZE = 100
"""The most that a list request returns: https://docs.easypost.com/docs/pagination"""
_GRAMS_PER_OUNCE = 28.349523125
_MILLIMETRES_PER_INCH = 25.4
_NOT_TOLD = "Unknown"
"""The carrier or service of a label whose rate is missing."""
# `refund_status` of a shipment: https://docs.easypost.com/docs/shipments
_VOID_STATES = {
    None: VoidState.NONE,
    "submitted": VoidState.SUBMITTED,
    "refunded": VoidState.REFUNDED,
    "rejected": VoidState.REJECTED,
    "not_applicable": VoidState.NOT_APPLICABLE,
}
# `status` of a tracker: https://docs.easypost.com/docs/trackers, explained in
# https://support.easypost.com/hc/en-us/articles/360044353091-Understanding-Trackers. A delivery that failed
# and will be tried again is still `in_transit`; when the carrier gives up, it is one of `return_to_sender`,
# `available_for_pickup` and `failure`.
_TRACKING_STATUSES = {
    "unknown": TrackingStatus.PRE_TRANSIT,
    "pre_transit": TrackingStatus.PRE_TRANSIT,
    "in_transit": TrackingStatus.IN_TRANSIT,
    "out_for_delivery": TrackingStatus.IN_TRANSIT,
    "available_for_pickup": TrackingStatus.IN_TRANSIT,
    "delivered": TrackingStatus.DELIVERED,
    "return_to_sender": TrackingStatus.RETURNED,
    "failure": TrackingStatus.FAILED,
    "cancelled": TrackingStatus.CANCELLED,
    "error": TrackingStatus.UNCLEAR,
}


class EasyPostCarrier:
    """Implements `controllers.shipment.ports.Carrier`; an async context manager.

    Args:
        key: The API key.
        url: The API's base address, without its version.
        timeout_seconds: The most that one call may take.
        sender: The address that parcels are sent from, in EasyPost's fields.
        failure_threshold, recovery_seconds: Of the circuit breaker, see `ProviderCalls`.
    """

    def __init__(
        self,
        key: str,
        url: str,
        *,
        timeout_seconds: float = 10.0,
        sender: Mapping[str, str] | None = None,
        failure_threshold: int = 8,
        recovery_seconds: float = RECOVERY_SECONDS,
    ) -> None:
        self._sender = dict(sender or {})
        self._timeout_seconds = timeout_seconds
        self._sdk = EasyPostClient(key, f"{url}/v2", timeout_seconds)  # type: ignore[arg-type]
        self._session: aiohttp.ClientSession | None = None
        self._calls = ProviderCalls(
            "carrier", classify_error, failure_threshold=failure_threshold, recovery_seconds=recovery_seconds
        )

    async def __aenter__(self) -> Self:
        self._session = open_session(self._timeout_seconds)
        # The SDK has no public way to replace its `requests.Session`.
        self._sdk._requests_session = sdk_on_loop.SdkSession(self._session)  # type: ignore[assignment]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def use_key(self, key: str) -> None:
        """Make every later call with this key."""
        self._sdk.api_key = key

    async def create(
        self, *, reference: str, merchant: str, address: Address, parcels: Sequence[Parcel], service: Service
    ) -> CarrierShipment:
        params = {
            "reference": reference,
            "from_address": self._sender,
            "to_address": to_easypost_address(address),
            "parcel": to_easypost_parcel(parcels),
            "options": {"print_custom_1": merchant},
        }
        made = await self._once("create", lambda client: client.shipment.create(**params), order=reference)
        return parse_shipment(made, service)

    async def buy(self, shipment_id: str, rate_id: str) -> CarrierShipment:
        bought = await self._once(
            "buy",
            lambda client: client.shipment.buy(shipment_id, rate={"id": rate_id}),
            shipment=shipment_id,
        )
        return parse_shipment(bought)

    async def get(self, shipment_id: str) -> CarrierShipment:
        return parse_shipment(
            await self._with_retries(
                "get", lambda client: client.shipment.retrieve(shipment_id), shipment=shipment_id
            )
        )

    async def void(self, shipment_id: str) -> CarrierShipment:
        try:
            return parse_shipment(
                await self._once(
                    "void", lambda client: client.shipment.refund(shipment_id), shipment=shipment_id
                )
            )
        except Refused:
            # Voided already, or there is no label, or it cannot be taken back: its state says which.
            found = await self.get(shipment_id)
            is_alive = found.label is not None and found.void is VoidState.NONE
            return replace(found, void=VoidState.REJECTED) if is_alive else found

    async def create_pickup(self, shipment_ids: Sequence[str], *, reference: str) -> str:
        shipments = [{"id": shipment_id} for shipment_id in shipment_ids]
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        batch = await self._once(
            "create_batch", lambda client: client.batch.create(shipments=shipments, reference=reference)
        )
        made = await self._once(
            "create_pickup",
            lambda client: client.pickup.create(
                address=self._sender,
                batch={"id": batch.id},
                reference=reference,
                min_datetime=tomorrow.replace(hour=9).isoformat(timespec="seconds"),
                max_datetime=tomorrow.replace(hour=17).isoformat(timespec="seconds"),
                is_account_address=False,
                instructions="",
            ),
        )
        return str(made.id)

    async def book_pickup(self, pickup_id: str) -> str:
        found = await self._get_pickup(pickup_id)
        if found.confirmation:
            return str(found.confirmation)
        if _is_over(_told(found, "min_datetime"), datetime.now(UTC)):
            raise Refused(Reason.NO_PICKUP, "The pickup was not booked before its day.")
        if not _told(found, "pickup_rates"):
            raise Refused(Reason.NO_PICKUP, "No carrier offers to collect these parcels.")
        rate = found.pickup_rates[0]
        try:
            booked = await self._once(
                "buy_pickup",
                lambda client: client.pickup.buy(pickup_id, carrier=rate.carrier, service=rate.service),
            )
        except Refused:
            # Another process may have booked it meanwhile.
            booked = await self._get_pickup(pickup_id)
            if not booked.confirmation:
                raise
        return str(booked.confirmation)

    async def _get_pickup(self, pickup_id: str) -> Any:
        return await self._with_retries("get_pickup", lambda client: client.pickup.retrieve(pickup_id))

    async def track(self, tracking_codes: Sequence[str]) -> Sequence[TrackingUpdate]:
        updates: list[TrackingUpdate] = []
        for start in range(0, len(tracking_codes), PAGE_SIZE):
            codes = list(tracking_codes[start : start + PAGE_SIZE])
            answer = await self._with_retries("track", partial(_track, codes))
            updates += [parse_tracking_update(tracker) for tracker in answer.trackers]
        return updates

    async def shipments(self) -> AsyncIterator[CarrierShipment]:
        before: dict[str, str] = {}
        while True:
            page = await self._with_retries(
                "list", partial(_list, {"page_size": PAGE_SIZE, "purchased": True, **before})
            )
            for found in page.shipments:
                yield parse_shipment(found)
            if not page.has_more:
                return
            before = {"before_id": page.shipments[-1].id}

    async def _once(self, operation: str, call: Callable[[Any], T], **ids: str) -> T:
        return await self._calls.once(operation, lambda: self._run(call), **ids)

    async def _with_retries(self, operation: str, call: Callable[[Any], T], **ids: str) -> T:
        return await self._calls.with_retries(operation, lambda: self._run(call), **ids)

    async def _run(self, call: Callable[[Any], T]) -> T:
        assert self._session is not None, "the carrier is not open"
        return await sdk_on_loop.run_sdk(lambda: call(self._sdk))


def to_easypost_address(address: Address) -> dict[str, str | None]:
    """EasyPost's fields of an address."""
    return {
        "name": address.name,
        "street1": address.line1,
        "street2": address.line2,
        "city": address.city,
        "state": address.region,
        "zip": address.postal_code,
        "country": address.country,
    }


def to_easypost_parcel(parcels: Sequence[Parcel]) -> dict[str, float]:
    """Merge several boxes into one parcel: an EasyPost shipment has exactly one.

    The boxes lie on their largest sides and are stacked. Ounces and inches, rounded up to a tenth, so
    that no value becomes zero.
    """
    sides = [
        sorted((p.length_millimetres, p.width_millimetres, p.height_millimetres), reverse=True)
        for p in parcels
    ]
    return {
        "weight": _round_up_to_tenth(sum(p.weight_grams for p in parcels) / _GRAMS_PER_OUNCE),
        "length": _round_up_to_tenth(max(side[0] for side in sides) / _MILLIMETRES_PER_INCH),
        "width": _round_up_to_tenth(max(side[1] for side in sides) / _MILLIMETRES_PER_INCH),
        "height": _round_up_to_tenth(sum(side[2] for side in sides) / _MILLIMETRES_PER_INCH),
    }


def _round_up_to_tenth(value: float) -> float:
    return math.ceil(value * 10 - 1e-9) / 10


def parse_shipment(found: Any, service: Service = Service.STANDARD) -> CarrierShipment:
    """Read a Shipment; `service` chooses the rate where no label was bought yet.

    A label that was bought is read whatever else is missing or cannot be understood.
    """
    tracker = _told(found, "tracker")
    rate, label = _told(found, "selected_rate"), None
    if _told(found, "postage_label") is not None and _told(found, "tracking_code"):
        price = read_price(rate)
        label = Label(
            tracking_code=found.tracking_code,
            tracker_id=_told(tracker, "id") or "",
            tracking_url=_told(tracker, "public_url") or "",
            carrier=_told(rate, "carrier") or _told(tracker, "carrier") or _NOT_TOLD,
            service=_told(rate, "service") or _NOT_TOLD,
            cost=price.amount if price else None,
            currency=price.currency if price else None,
        )
    elif rate is None:
        rate = choose_rate(_told(found, "rates") or [], service)
    return CarrierShipment(
        id=found.id,
        reference=_told(found, "reference") or "",
        rate_id=_told(rate, "id"),
        label=label,
        void=_VOID_STATES.get(_told(found, "refund_status"), VoidState.NONE),
        tracking_status=parse_tracking_status(_told(tracker, "status")),
    )


def parse_tracking_status(word: str | None) -> TrackingStatus:
    """Where a parcel is; what is not documented is UNCLEAR, so that nobody takes it for being at home."""
    return _TRACKING_STATUSES.get(word, TrackingStatus.UNCLEAR) if word else TrackingStatus.PRE_TRANSIT


def classify_error(problem: Exception) -> Transient | Refused | None:
    """What an exception of the SDK means for the call. Source: https://docs.easypost.com/docs/errors"""
    match problem:
        # The SDK raises HttpError while it handles the session's exception, which is thus its context.
        case HttpError() if isinstance(problem.__context__, NEVER_SENT):
            return Transient(Reason.CARRIER_UNAVAILABLE, "the carrier cannot be reached")
        case HttpError() if not isinstance(problem.__context__, TimeoutError):
            return Unclear(Reason.CARRIER_UNCLEAR, "the connection to the carrier broke off")
        case HttpError() | EasyPostTimeout():
            # The SDK raises its TimeoutError for the status 408.
            return Unclear(Reason.CARRIER_UNCLEAR, "the carrier did not answer")
        case ApiError() if problem.http_status == 429:
            return Transient(Reason.CARRIER_BUSY, "the carrier asks to wait", retry_after=1.0)
        case ApiError() if problem.http_status in (401, 402, 403):
            # A fault of our key or account, not of the address: no order may fail because of it.
            return Transient(
                Reason.CARRIER_UNAUTHORIZED, "the carrier refuses our account; check its key and funds"
            )
        case ApiError() if problem.http_status and 400 <= problem.http_status < 500:
            return _refusal(problem)
        case EasyPostError():
            return Unclear(Reason.CARRIER_UNCLEAR, "the carrier failed")
        case _:
            return None


def _refusal(problem: ApiError) -> Refused:
    code = problem.code or "UNKNOWN"
    if code == "SHIPMENT.POSTAGE.EXISTS":
        return Refused(Reason.ALREADY_BOUGHT, "The label was bought already.")
    if code.startswith("ADDRESS."):
        return Refused(Reason.ADDRESS_REJECTED, "The carrier does not deliver to this address.")
    return Refused(Reason.SHIPMENT_REJECTED, f"The carrier rejected the shipment ({code}).")


def parse_tracking_update(found: Any) -> TrackingUpdate:
    """Read a Tracker."""
    word = _told(found, "status")
    return TrackingUpdate(
        tracking_code=_told(found, "tracking_code") or "",
        tracking_status=parse_tracking_status(word),
        word=word or "",
    )


def _is_over(begin: str | None, now: datetime) -> bool:
    """Whether a pickup's time has begun; nobody can tell where the carrier does not say."""
    try:
        at = datetime.fromisoformat(begin or "")
    except ValueError:
        return False
    return (at if at.tzinfo else at.replace(tzinfo=UTC)) <= now


def _track(codes: list[str], client: Any) -> Any:
    return client.tracker.retrieve_batch(tracking_codes=codes)


def _list(query: dict[str, Any], client: Any) -> Any:
    return client.shipment.all(**query)


def _told(found: Any, name: str) -> Any:
    """A field of the SDK's object: one that the carrier left out is None."""
    return getattr(found, name, None)
