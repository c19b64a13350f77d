"""The list of orders: live, with filters, and with what is done to several at once."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from prometheus_client import Gauge
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from orderplane.client.responses import OrderPage
from orderplane.client.transport import ApiProblem
from orderplane.console.context import Console, console_of, done, failure, form_of, signed_in
from orderplane.console.forms import BadForm, Form
from orderplane.console.order_feed import changes
from orderplane.console.sessions import Notice, Session
from orderplane.console.story import stalled
from orderplane.crds.order import OrderPhase
from orderplane.crds.reasons import Reason

PER_PAGE = 50
MOST_SELECTED = 100
MOST_STREAMS = 200

FILTERS = ("phase", "reason", "sku", "customer", "reference", "after", "before", "stalled")

STREAMS = Gauge("orderplane_console_streams", "Browsers that look at a live list of orders.")

_COMPENSATION_REASONS = sorted(
    reason.value
    for reason in (
        Reason.CANCEL_REQUESTED, Reason.OUT_OF_STOCK, Reason.RESERVATION_EXPIRED, Reason.STOCK_LOST,
        Reason.CARD_DECLINED, Reason.INSUFFICIENT_FUNDS, Reason.EXPIRED_CARD, Reason.INCORRECT_CVC,
        Reason.AUTHENTICATION_REQUIRED, Reason.PAYMENT_DECLINED, Reason.ADDRESS_REJECTED, Reason.NO_RATE,
        Reason.SHIPMENT_REJECTED, Reason.DELETED,
    )
)  # fmt: skip

_open_streams = 0


async def show(request: Request, session: Session) -> Response:
    """The list; or the one order whose id was searched for."""
    console, query = console_of(request), request.query_params
    if wanted := query.get("id", "").strip():
        return RedirectResponse(f"/console/orders/{wanted.replace('/', '')[:120]}", 303)
    filters = {name: query.get(name, "").strip() for name in FILTERS}
    cursor = query.get("cursor") or None
    problem = None
    page: OrderPage = {"items": [], "next": None}
    try:
        page = await _read(session, filters, cursor)
    except BadForm as wrong:
        problem = str(wrong)
    except ApiProblem as refusal:
        if refusal.code == "cursor_expired":
            return RedirectResponse(f"/console/orders?{_query(filters)}", 303)
        if refusal.code not in ("validation_failed", "invalid_cursor"):
            raise
        problem = "; ".join([refusal.detail, *(str(place.get("detail", "")) for place in refusal.errors)])
    return console.page(
        request, session, "page/orders.html", orders=page["items"], filters=filters, problem=problem,
        phases=list(OrderPhase), reasons=_COMPENSATION_REASONS, stalled=stalled,
        stream=None if cursor or problem else f"/console/orders/stream?{_query(filters)}",
        following=f"/console/orders?{_query(filters, cursor=page['next'])}" if page["next"] else None,
        is_first=cursor is None, first=f"/console/orders?{_query(filters)}",
    )  # fmt: skip


async def stream(request: Request, session: Session) -> Response:
    """What changes in the list, as Server-Sent Events with parts of the page."""
    if _open_streams >= MOST_STREAMS:
        return Response("Too many live lists are open.", 503, {"Retry-After": "30"}, "text/plain")
    filters = {name: request.query_params.get(name, "").strip() for name in FILTERS}
    try:
        _wanted(filters)
    except BadForm as problem:
        return failure(request, session, 422, str(problem))
    events = _events(console_of(request), session, filters)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, headers=headers, media_type="text/event-stream")


async def _events(console: Console, session: Session, filters: dict[str, str]) -> AsyncIterator[str]:
    global _open_streams  # noqa: PLW0603
    _open_streams += 1
    STREAMS.set(_open_streams)

    def is_over() -> bool:
        return console.stopping.is_set() or not console.sessions.holds(session)

    try:
        yield ": here\n\n"
        changing = session.client.orders.watch_all(**_wanted(filters), limit=PER_PAGE)
        async for order in changes(changing, is_over=is_over):
            if order is None:
                yield ": nothing\n\n"
                continue
            yield event("order", console.pages.render("part/order-row.html", order=order, stalled=stalled))
    except ApiProblem:
        return
    finally:
        _open_streams -= 1
        STREAMS.set(_open_streams)


def event(name: str, text: str) -> str:
    """One event of a stream (HTML Standard, 9.2.6): each line of its data has a name before it."""
    lines = "".join(f"data: {line}\n" for line in text.splitlines() if line.strip())
    return f"event: {name}\n{lines}\n"


async def selected(request: Request, session: Session, form: Form) -> Response:
    """Cancel or retry several orders; first say what will happen."""
    what, ids = form.text("what"), list(dict.fromkeys(form.all("order")))
    if what not in ("cancel", "retry"):
        raise BadForm("Choose what is to be done.")
    if not 0 < len(ids) <= MOST_SELECTED:
        raise BadForm(f"Choose 1 to {MOST_SELECTED} orders.")
    if form.text("confirmed") != "yes":
        return console_of(request).page(request, session, "page/selected.html", what=what, ids=ids)
    refusals = []
    for order_id in ids:
        try:
            act = session.client.orders.cancel if what == "cancel" else session.client.orders.retry
            await act(order_id)
        except ApiProblem as problem:
            if problem.status in (401, 0):
                raise
            refusals.append(f"{order_id}: {problem.detail}")
    for line in refusals[:4]:
        session.notices.append(Notice(line, "refused"))
    word = "cancelled" if what == "cancel" else "tried again"
    return done(session, f"{len(ids) - len(refusals)} of {len(ids)} orders are {word}.", "/console/orders")


async def _read(session: Session, filters: dict[str, str], cursor: str | None) -> OrderPage:
    """A page of the list.

    Raises:
        BadForm: a filter is none.
    """
    return await session.client.orders.list(**_wanted(filters), limit=PER_PAGE, cursor=cursor)


def _wanted(filters: dict[str, str]) -> dict[str, Any]:
    """The filters as the API has them.

    Raises:
        BadForm: one of them is none.
    """
    return {
        "phase": filters["phase"] or None,
        "reason": filters["reason"] or None,
        "sku": filters["sku"] or None,
        "customer": filters["customer"] or None,
        "reference": filters["reference"] or None,
        "stalled": True if filters["stalled"] else None,
        "created_after": _time(filters["after"]),
        "created_before": _time(filters["before"]),
    }


def _time(text: str) -> datetime | None:
    """A time as a browser's field gives it. A script of ours adds the zone of the viewer; else it is UTC."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadForm("Give times as 2026-01-31T12:00.") from None
    return moment if moment.tzinfo else datetime.fromisoformat(f"{text}+00:00")


def _query(filters: dict[str, str], **more: Any) -> str:
    return urlencode({name: value for name, value in {**filters, **more}.items() if value})


ROUTES = [
    Route("/console/orders", signed_in(show), methods=["GET"]),
    Route("/console/orders/stream", signed_in(stream), methods=["GET"]),
    Route("/console/orders/selected", form_of(selected), methods=["POST"]),
]
