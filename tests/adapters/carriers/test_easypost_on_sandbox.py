"""The carrier through the official SDK, against the carrier sandbox: every magic address."""

import asyncio
import threading
import uuid

import pytest

from orderplane.adapters.carriers.easypost import EasyPostCarrier
from orderplane.crds.order import Address
from orderplane.crds.shipment import Parcel, Service
from orderplane.ledgers.errors import Refused, Unclear
from orderplane.ledgers.states import TrackingStatus, VoidState

PARCEL = Parcel(weight_grams=1200, length_millimetres=300, width_millimetres=200, height_millimetres=100)

pytestmark = pytest.mark.usefixtures("calm")


async def created(carrier, street="Main Street 1", *, service=Service.STANDARD, reference=None):
    address = Address(name="N. N.", line1=street, city="Delft", postal_code="2611", country="NL")
    return await carrier.create(
        reference=reference or str(uuid.uuid4()),
        merchant="shop",
        address=address,
        parcels=[PARCEL],
        service=service,
    )


async def bought(carrier, street="Main Street 1", **how):
    shipment = await created(carrier, street, **how)
    return await carrier.buy(shipment.id, shipment.rate_id)


async def test_a_label_is_two_calls(carrier):
    reference = str(uuid.uuid4())
    shipment = await created(carrier, reference=reference)
    assert (shipment.label, shipment.void, shipment.reference) == (None, VoidState.NONE, reference)
    labelled = await carrier.buy(shipment.id, shipment.rate_id)
    assert labelled.label is not None
    assert labelled.label.currency == "USD"
    assert labelled.label.cost > 0
    assert labelled.label.tracking_url.startswith("https://")
    assert labelled.rate_id == shipment.rate_id
    assert await carrier.get(shipment.id) == labelled
    with pytest.raises(Refused) as refused:
        await carrier.buy(shipment.id, shipment.rate_id)
    assert refused.value.reason == "AlreadyBought"


async def test_standard_is_cheapest_and_express_is_fastest(carrier):
    standard = await bought(carrier)
    express = await bought(carrier, service=Service.EXPRESS)
    assert (standard.label.service, express.label.service) == ("GroundSaver", "NextDay")
    assert standard.label.cost < express.label.cost


async def test_eight_buyers_get_one_label(carrier):
    shipment = await created(carrier)
    answers = await asyncio.gather(
        *(carrier.buy(shipment.id, shipment.rate_id) for _ in range(8)), return_exceptions=True
    )
    assert sum(not isinstance(answer, Exception) for answer in answers) == 1
    assert {a.reason for a in answers if isinstance(a, Refused)} == {"AlreadyBought"}


async def test_an_address_is_refused_at_creation(carrier):
    with pytest.raises(Refused) as refused:
        await created(carrier, "Nowhere 1")
    assert refused.value.reason == "AddressRejected"
    assert "Nowhere" not in str(refused.value)


async def test_an_address_is_refused_when_its_label_is_bought(carrier):
    shipment = await created(carrier, "Island 1")
    with pytest.raises(Refused):
        await carrier.buy(shipment.id, shipment.rate_id)
    assert (await carrier.get(shipment.id)).label is None


async def test_a_label_whose_answer_is_lost_is_found_by_its_id(carrier, hasty_carrier):
    shipment = await created(carrier, "Ferry 1")
    with pytest.raises(Unclear):
        await hasty_carrier.buy(shipment.id, shipment.rate_id)
    found = await carrier.get(shipment.id)
    assert found.label is not None
    with pytest.raises(Refused):
        await carrier.buy(shipment.id, shipment.rate_id)
    assert (await carrier.get(shipment.id)).label == found.label


async def test_a_buy_that_is_lost_on_its_way_buys_nothing(carrier, hasty_carrier):
    shipment = await created(carrier, "Fog 1")
    with pytest.raises(Unclear):
        await hasty_carrier.buy(shipment.id, shipment.rate_id)
    assert (await carrier.get(shipment.id)).label is None
    assert (await carrier.buy(shipment.id, shipment.rate_id)).label is not None


async def test_a_500_on_create_happens_once(carrier):
    reference = str(uuid.uuid4())
    with pytest.raises(Unclear):
        await created(carrier, "Bottle 1", reference=reference)
    assert (await created(carrier, "Bottle 1", reference=reference)).reference == reference


async def test_a_void_is_submitted_then_refunded_and_the_parcel_stays(carrier, carrier_sandbox, eventually):
    shipment = await bought(carrier)
    assert (await carrier.void(shipment.id)).void is VoidState.SUBMITTED
    again = await carrier.void(shipment.id)
    assert again.void in (VoidState.SUBMITTED, VoidState.REFUNDED)
    refunded = await eventually(
        lambda: carrier.get(shipment.id), lambda found: found.void is not VoidState.SUBMITTED
    )
    assert refunded.void is VoidState.REFUNDED
    assert refunded.tracking_status is TrackingStatus.PRE_TRANSIT


@pytest.mark.parametrize(
    ("street", "answer", "moves"),
    [("Lighthouse 1", VoidState.REJECTED, True), ("Harbour 1", VoidState.NOT_APPLICABLE, False)],
)
async def test_a_void_may_be_refused(carrier, eventually, street, answer, moves):
    other = await bought(carrier)
    shipment = await bought(carrier, street)
    assert (await carrier.void(shipment.id)).void is answer
    await eventually(
        lambda: carrier.get(other.id), lambda found: found.tracking_status is not TrackingStatus.PRE_TRANSIT
    )
    is_there = (await carrier.get(shipment.id)).tracking_status
    if not moves:
        assert is_there is TrackingStatus.PRE_TRANSIT
    else:
        await eventually(
            lambda: carrier.get(shipment.id), lambda found: found.tracking_status is TrackingStatus.DELIVERED
        )


async def test_what_was_scanned_cannot_be_taken_back(carrier, carrier_sandbox):
    shipment = await bought(carrier)
    scan = {"tracking_code": shipment.label.tracking_code, "status": "in_transit"}
    status, _, _ = await carrier_sandbox.call("POST", "/_sandbox/scan", json=scan)
    assert status == 200
    voided = await carrier.void(shipment.id)
    assert (voided.void, voided.tracking_status) == (VoidState.REJECTED, TrackingStatus.IN_TRANSIT)


async def test_a_void_without_a_label_tells_how_it_stands(carrier):
    shipment = await created(carrier)
    assert (await carrier.void(shipment.id)).void is VoidState.NONE


async def test_many_parcels_are_tracked_in_few_calls(carrier, carrier_sandbox, eventually):
    shipments = await asyncio.gather(*(bought(carrier) for _ in range(5)))
    codes = [shipment.label.tracking_code for shipment in shipments]
    scan = {"tracking_code": codes[0], "status": "return_to_sender"}
    await carrier_sandbox.call("POST", "/_sandbox/scan", json=scan)
    updates = await carrier.track([*codes, *(f"SBXNONE{n}" for n in range(200))])
    assert [update.tracking_code for update in updates] == codes
    assert updates[0].tracking_status is TrackingStatus.RETURNED
    delivered = await eventually(
        lambda: carrier.track(codes[1:]),
        lambda found: all(one.tracking_status is TrackingStatus.DELIVERED for one in found),
    )
    assert len(delivered) == 4
    assert await carrier.track([]) == []


async def test_a_collection_is_booked_for_several(carrier):
    shipments = [await bought(carrier) for _ in range(3)]
    pickup = await carrier.create_pickup([one.id for one in shipments], reference="batch-1")
    confirmation = await carrier.book_pickup(pickup)
    assert confirmation
    assert await carrier.book_pickup(pickup) == confirmation, "booked once, however often it is asked"
    unlabelled = await created(carrier)
    with pytest.raises(Refused):
        await carrier.create_pickup([unlabelled.id], reference="batch-2")


async def test_the_list_is_complete_over_several_pages(carrier):
    made = {shipment.id for shipment in await asyncio.gather(*(bought(carrier) for _ in range(70)))}
    made |= {shipment.id for shipment in await asyncio.gather(*(bought(carrier) for _ in range(70)))}
    listed = [shipment async for shipment in carrier.shipments()]
    assert len(listed) == len({shipment.id for shipment in listed})
    assert made <= {shipment.id for shipment in listed}
    assert all(shipment.reference for shipment in listed)


async def test_a_rate_that_cannot_be_read_is_left_out(carrier):
    assert (await bought(carrier, "Bazaar 1")).label.service == "Priority"


@pytest.mark.parametrize("street", ["Peso 1", "Ghost 1"])
async def test_a_label_is_found_whatever_its_price_looks_like(carrier, street):
    shipment = await bought(carrier, street)
    assert (shipment.label.cost, shipment.label.currency) == (None, None)
    assert await carrier.get(shipment.id) == shipment
    assert shipment in [one async for one in carrier.shipments()]
    (update,) = await carrier.track([shipment.label.tracking_code])
    assert update.tracking_status is TrackingStatus.PRE_TRANSIT


async def test_labels_survive_sigkill(start_sandbox, key):
    sandbox = await start_sandbox("carrier", ORDERPLANE_SANDBOX_TRANSIT_SECONDS="3600")
    async with EasyPostCarrier(key, sandbox.url) as carrier:
        kept, voided = await bought(carrier), await bought(carrier, "Harbour 2")
        await carrier.void(voided.id)
        before = [await carrier.get(one.id) for one in (kept, voided)]
        await sandbox.kill()
        await sandbox.start()
    async with EasyPostCarrier(key, sandbox.url) as carrier:
        assert [await carrier.get(one.id) for one in (kept, voided)] == before


async def test_a_carrier_that_hangs_holds_nobody_else_up(carrier_sandbox, key):
    async with EasyPostCarrier(key, carrier_sandbox.url, timeout_seconds=1.0) as carrier:
        shipment = await created(carrier)
        await carrier_sandbox.faults("hang", seconds=60)
        calls = [asyncio.create_task(carrier.buy(shipment.id, shipment.rate_id)) for _ in range(8)]
        ticks = 0
        while not all(call.done() for call in calls):
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks > 20
        assert all(isinstance(call.exception(), Unclear) for call in calls)
        await carrier_sandbox.faults("ok")


async def test_a_call_can_be_cancelled(carrier_sandbox, key):
    async with EasyPostCarrier(key, carrier_sandbox.url, timeout_seconds=30) as carrier:
        shipment = await created(carrier)
        await carrier_sandbox.faults("hang", seconds=60)
        call = asyncio.create_task(carrier.get(shipment.id))
        await asyncio.wait([call], timeout=0.2)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(2):
                await call
        await carrier_sandbox.faults("ok")
        assert (await carrier.get(shipment.id)).id == shipment.id


async def test_no_thread_is_needed(carrier_sandbox, key):
    before = threading.active_count()
    async with EasyPostCarrier(key, carrier_sandbox.url) as carrier:
        await asyncio.gather(*(created(carrier) for _ in range(4)))
        assert threading.active_count() == before
