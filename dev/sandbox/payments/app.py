"""The routes of the payment sandbox."""

import asyncio
import secrets
import time
from collections.abc import Callable

import orjson
from aiohttp import web

from orderplane.dev.sandbox.exchange import NO_REPLY, Exchange, Handler, Operation, Perform, Reply, Surface
from orderplane.dev.sandbox.payments import intents
from orderplane.dev.sandbox.payments.currencies import AmountRefusal, refuse_charge, refuse_fraction
from orderplane.dev.sandbox.payments.idempotency import IdempotencyKeys
from orderplane.dev.sandbox.payments.intents import (
    METHODS,
    AmountTooLarge,
    Fault,
    Intent,
    PaymentMethod,
    Refund,
    Status,
    WrongState,
)
from orderplane.dev.sandbox.payments.wire import (
    Dialect,
    Form,
    Refusal,
    declined,
    intent_document,
    page,
    refund_document,
)
from orderplane.dev.sandbox.store import Store


class Payments:
    """Intents and refunds of one account.

    Args:
        slow_seconds: Duration of a slow charge.
        key_ttl_seconds: How long an idempotency key is kept.
    """

    def __init__(self, store: Store, *, slow_seconds: float, key_ttl_seconds: float) -> None:
        self._intents = store.table("intent", intents.read_intent)
        self._refunds = store.table("refund", intents.read_refund)
        self._failed_once = store.table("stumble", dict)
        self._keys = IdempotencyKeys(store, key_ttl_seconds)
        self._slow_seconds = slow_seconds
        self._refunds_of: dict[str, list[Refund]] = {}
        for refund in self._refunds.values():
            self._refunds_of.setdefault(refund.intent, []).append(refund)

    async def once(self, request: web.Request, body: bytes, perform: Perform) -> Reply:
        """Apply the idempotency key, and turn refusals into replies."""
        try:
            return await self._keys.answer(request, body, perform)
        except Refusal as refusal:
            return refusal.reply()

    def prune(self, _: bytes) -> object:
        """Delete all idempotency keys now, as the provider does after a day."""
        return {"pruned": self._keys.prune(time.time(), everything=True)}

    async def create(self, _: web.Request, body: bytes) -> Reply:
        """POST /v1/payment_intents"""
        form = Form(body.decode())
        amount, currency = form.whole("amount"), form.required("currency").lower()
        if amount is None:
            form.required("amount")
        _refuse(refuse_charge(amount or 0, currency))
        method = form.required("payment_method")
        metadata = form.group("metadata")
        if _method(method).fault is Fault.ERROR_ON_CREATE and self._fails_first_time(
            metadata.get("order", "")
        ):
            return Dialect().broken()
        intent = Intent(
            id=f"pi_{secrets.token_hex(12)}",
            amount=amount or 0,
            currency=currency,
            method=method,
            created=int(time.time()),
            metadata=metadata,
        )
        if form.text("confirm") == "true":
            return await self._charge(self._intents.put(intent.id, intent))
        return self._store(intent)

    async def confirm(self, request: web.Request, _: bytes) -> Reply:
        """POST /v1/payment_intents/{id}/confirm"""
        return await self._charge(self._intent(request.match_info["id"]))

    async def cancel(self, request: web.Request, _: bytes) -> Reply:
        """POST /v1/payment_intents/{id}/cancel"""
        try:
            return self._store(intents.cancel(self._intent(request.match_info["id"]), time.time()))
        except WrongState as problem:
            raise _unexpected_state(problem) from problem

    async def intent(self, request: web.Request, _: bytes) -> Reply:
        """GET /v1/payment_intents/{id}"""
        return _answer(intent_document(self._intent(request.match_info["id"]), time.time()))

    async def intents(self, request: web.Request, _: bytes) -> Reply:
        """GET /v1/payment_intents"""
        limit, after = _window(request)
        try:
            rows, has_more = self._intents.page(limit, after)
        except KeyError as problem:
            raise _missing("payment_intent", after or "", "starting_after") from problem
        return page(rows, has_more, "/v1/payment_intents", intent_document, time.time())

    async def create_refund(self, _: web.Request, body: bytes) -> Reply:
        """POST /v1/refunds"""
        form = Form(body.decode())
        intent = self._intent(form.required("payment_intent"))
        amount = form.whole("amount")
        if amount is not None:
            _refuse(refuse_fraction(amount, intent.currency))
        earlier = self._refunds_of.setdefault(intent.id, [])
        now = time.time()
        try:
            refund = intents.refund(
                f"re_{secrets.token_hex(12)}",
                intent,
                _method(intent.method),
                earlier,
                amount=amount,
                metadata=form.group("metadata"),
                now=now,
            )
        except WrongState as problem:
            raise _unexpected_state(problem) from problem
        except AmountTooLarge as problem:
            if problem.left == 0:
                message = f"PaymentIntent {intent.id} has already been refunded."
                raise Refusal(400, message, code="charge_already_refunded") from problem
            message = f"Refund amount is not between 1 and {problem.left}, which is what can be refunded."
            raise Refusal(400, message, code="amount_too_large", param="amount") from problem
        earlier.append(self._refunds.put(refund.id, refund))
        return _answer(refund_document(refund, now))

    async def refund(self, request: web.Request, _: bytes) -> Reply:
        """GET /v1/refunds/{id}"""
        id_ = request.match_info["id"]
        refund = self._refunds.get(id_)
        if refund is None:
            raise _missing("refund", id_, "id")
        return _answer(refund_document(refund, time.time()))

    async def refunds(self, request: web.Request, _: bytes) -> Reply:
        """GET /v1/refunds"""
        limit, after = _window(request)
        wanted = request.query.get("payment_intent")
        try:
            rows, has_more = self._refunds.page(limit, after, lambda r: wanted in (None, r.intent))
        except KeyError as problem:
            raise _missing("refund", after or "", "starting_after") from problem
        return page(rows, has_more, "/v1/refunds", refund_document, time.time())

    async def _charge(self, intent: Intent) -> Reply:
        method = _method(intent.method)
        is_first = intent.confirms == 0
        if method.fault is Fault.SLOW and intent.status is Status.REQUIRES_CONFIRMATION:
            await asyncio.sleep(self._slow_seconds)
            intent = self._intent(intent.id)
        if method.fault is Fault.NO_REPLY_BEFORE_CHARGE and is_first:
            self._intents.put(intent.id, intents.count_attempt(intent))
            return NO_REPLY
        now = time.time()
        try:
            intent = self._intents.put(intent.id, intents.confirm(intent, method, now))
        except WrongState as problem:
            raise _unexpected_state(problem) from problem
        if intent.failure:
            return declined(intent, now)
        if method.fault is Fault.ERROR_AFTER_CHARGE and is_first:
            return Dialect().broken()
        body = orjson.dumps(intent_document(intent, now))
        return Reply(200, body, is_never_sent=method.fault is Fault.NO_REPLY_AFTER_CHARGE and is_first)

    def _store(self, intent: Intent) -> Reply:
        return _answer(intent_document(self._intents.put(intent.id, intent), time.time()))

    def _intent(self, id_: str) -> Intent:
        intent = self._intents.get(id_)
        if intent is None:
            raise _missing("payment_intent", id_, "intent")
        return intent

    def _fails_first_time(self, reference: str) -> bool:
        is_first = self._failed_once.get(reference) is None
        self._failed_once.put(reference, {})
        return is_first


def build(key: str, store: Store, *, slow_seconds: float, key_ttl_seconds: float) -> Surface:
    """All routes. `key` is the API key."""
    payments = Payments(store, slow_seconds=slow_seconds, key_ttl_seconds=key_ttl_seconds)
    exchange = Exchange(key, store, Dialect())
    app = web.Application()

    def on(operation: Operation) -> Handler:
        return exchange.serve(operation, payments.once)

    add: dict[str, Callable[..., object]] = {"GET": app.router.add_get, "POST": app.router.add_post}
    for verb, path, operation in (
        ("POST", "/v1/payment_intents", payments.create),
        ("GET", "/v1/payment_intents", payments.intents),
        ("GET", "/v1/payment_intents/{id}", payments.intent),
        ("POST", "/v1/payment_intents/{id}/confirm", payments.confirm),
        ("POST", "/v1/payment_intents/{id}/cancel", payments.cancel),
        ("POST", "/v1/refunds", payments.create_refund),
        ("GET", "/v1/refunds", payments.refunds),
        ("GET", "/v1/refunds/{id}", payments.refund),
    ):
        add[verb](path, on(operation))
    exchange.add_control(app)
    app.router.add_post("/_sandbox/prune", exchange.control(payments.prune))
    return Surface(app, exchange)


def _refuse(refusal: AmountRefusal | None) -> None:
    if refusal is not None:
        raise Refusal(400, refusal.message, code=refusal.code, param=refusal.param, is_replayed=False)


def _answer(document: object) -> Reply:
    return Reply(200, orjson.dumps(document))


def _method(method: str) -> PaymentMethod:
    try:
        return METHODS[method]
    except KeyError:
        raise _missing("PaymentMethod", method, "payment_method") from None


def _window(request: web.Request) -> tuple[int, str | None]:
    limit = Form(request.query_string).whole("limit", 10)
    if limit is None or not 1 <= limit <= 100:
        raise Refusal(400, "limit has to be from 1 to 100.", code="parameter_invalid_integer", param="limit")
    return limit, request.query.get("starting_after")


def _missing(what: str, id_: str, param: str) -> Refusal:
    status = 404 if param in ("intent", "id") else 400
    return Refusal(status, f"No such {what}: '{id_}'", code="resource_missing", param=param)


def _unexpected_state(problem: WrongState) -> Refusal:
    return Refusal(400, str(problem), code="payment_intent_unexpected_state")
