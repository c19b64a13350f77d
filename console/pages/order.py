"""One order: its story, what it waits for, and what can be done about it."""

import asyncio
import re
from functools import partial
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orderplane.client.responses import Order
from orderplane.client.transport import ApiProblem
from orderplane.console import story
from orderplane.console.context import console_of, done, form_of, problem_lines, signed_in
from orderplane.console.forms import BadForm, Form
from orderplane.console.sessions import Session
from orderplane.console.story import Deed
from orderplane.crds.money import minor_of

_CANCEL = """'{"spec":{"cancel":true}}'"""
_FIELDS = ("reason", "reference", "amount", "restock")
_WORD = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")


async def show(request: Request, session: Session) -> Response:
    """The page."""
    return console_of(request).page(
        request, session, "page/order.html", **await _seen(session, request.path_params["order_id"])
    )


async def live(request: Request, session: Session) -> Response:
    """The part of the page that changes."""
    return console_of(request).page(
        request, session, "part/order.html", **await _seen(session, request.path_params["order_id"])
    )


async def _seen(session: Session, order_id: str) -> dict[str, Any]:
    orders = session.client.orders
    order = await orders.get(order_id, with_address=True)
    timeline, messages, refunds = await asyncio.gather(
        orders.timeline(order_id), orders.messages(order_id), orders.refunds(order_id)
    )
    return {
        "order": order,
        "entries": story.story(order, timeline, messages["items"], refunds["items"]),
        "references": timeline["references"],
        "refunds": refunds["items"],
        "waits_for": story.waits_for(order),
        "advice": story.advice(order),
        "stalled": story.stalled(order),
        "deeds": story.deeds(order),
        "is_finished": story.is_finished(order),
        "kubectl": story.kubectl(session.merchant, order_id),
    }


async def ask(deed: Deed, request: Request, session: Session) -> Response:
    """Say what will happen, before it does."""
    order = await session.client.orders.get(request.path_params["order_id"])
    return _ask(request, session, order, deed)


def _ask(
    request: Request, session: Session, order: Order, deed: Deed, *, problem: list[str] | None = None,
    given: dict[str, str] | None = None, key: str | None = None,
) -> Response:  # fmt: skip
    return console_of(request).page(
        request, session, "page/confirm-order.html", status=422 if problem else 200, order=order, deed=deed,
        problem=problem or [],
        given=given or dict.fromkeys(_FIELDS, ""),
        key=key or str(uuid4()),
        kubectl=_commands(session.merchant, order["id"])[deed],
    )  # fmt: skip


async def act(deed: Deed, request: Request, session: Session, form: Form) -> Response:
    """Do it."""
    order_id = request.path_params["order_id"]
    try:
        text = await _done(session, order_id, deed, form)
    except (ApiProblem, BadForm) as problem:
        if isinstance(problem, ApiProblem) and problem.status not in (409, 422):
            raise
        order = await session.client.orders.get(order_id)
        lines = problem_lines(problem) if isinstance(problem, ApiProblem) else [str(problem)]
        given = {name: form.text(name) for name in _FIELDS}
        return _ask(request, session, order, deed, problem=lines, given=given, key=form.text("key"))
    return done(session, text, f"/console/orders/{order_id}")


async def _done(session: Session, order_id: str, deed: Deed, form: Form) -> str:
    orders = session.client.orders
    match deed:
        case Deed.CANCEL:
            await orders.cancel(order_id)
            return "The cancellation is recorded; what was done is taken back now."
        case Deed.RETRY:
            await orders.retry(order_id)
            return "It is tried again now."
        case Deed.SETTLE:
            settled = await orders.settle(
                order_id, reason=form.text("reason"), reference=form.text("reference")
            )
            return f"Recorded: {settled}."
        case Deed.REFUND:
            order = await orders.get(order_id)
            refund: dict[str, Any] = {
                "reason": _reason(form.text("reason")), "restock": form.text("restock") == "yes",
            }  # fmt: skip
            if amount := form.text("amount"):
                refund["amount"] = _amount(amount, order["quote"]["currency"])
            made = await orders.refund(order_id, refund, key=form.text("key"))
            return f"The refund {made['id']} is {made['phase']}."


def _reason(text: str) -> str:
    if not _WORD.fullmatch(text):
        raise BadForm(
            "Give the reason as one word that begins with a capital, as Damaged. The customer sees it."
        )
    return text


def _amount(text: str, currency: str) -> int:
    try:
        return minor_of(text, currency)
    except ValueError as problem:
        raise BadForm(f"The amount cannot be read: {problem}") from None


def _commands(merchant: str, order_id: str) -> dict[Deed, str]:
    """What does the same in a terminal."""
    return {
        Deed.CANCEL: f"kubectl -n {merchant} patch order {order_id} --type merge -p {_CANCEL}",
        Deed.RETRY: f"orderplane retry {order_id} -n {merchant}",
        Deed.SETTLE: f"orderplane resolve {order_id} -n {merchant} --reason REASON --reference REFERENCE",
        Deed.REFUND: f"orderplane orders refund {order_id} --reason Damaged",
    }


ROUTES = [
    Route("/console/orders/{order_id}", signed_in(show), methods=["GET"]),
    Route("/console/orders/{order_id}/live", signed_in(live), methods=["GET"]),
    *(
        route
        for deed in Deed
        for route in (
            Route(f"/console/orders/{{order_id}}/{deed}", signed_in(partial(ask, deed)), methods=["GET"]),
            Route(f"/console/orders/{{order_id}}/{deed}", form_of(partial(act, deed)), methods=["POST"]),
        )
    ),
]
