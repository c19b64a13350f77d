"""The routes of the payment sandbox."""

import asyncio
import secrets
import time
from collections.abc import Callable

import orjson
from aiohttp import web

from orderplane.dev.sandbox.exchange import NO_REPLY, Exchange, Handler, Operation, Perform, Reply, Surface
from orderplane.dev.sandbox.payments import disputes, intents
from orderplane.dev.sandbox.payments.currencies import AmountRefusal, refuse_charge, refuse_fraction
from orderplane.dev.sandbox.payments.disputes import Dispute, DisputeStatus
from orderplane.dev.sandbox.payments.idempotency import IdempotencyKeys
from orderplane.dev.sandbox.payments.intents import (
    METHODS,
    AmountTooLarge,
    Fault,
    Intent,
    PaymentMethod,
    Refund,
    RefundBehaviour,
    Status,
    WrongState,
)
from orderplane.dev.sandbox.payments.wire import (
    Dialect,
    Form,
    Refusal,
    declined,
    dispute_document,
    intent_document,
    page,
    refund_document,
)
from orderplane.dev.sandbox.store import Store


class Payments:
    """Intents, refunds and disputes of one account.

    Args:
        slow_seconds: Duration of a slow charge.
        key_ttl_seconds: How long an idempotency key is kept.
    """

    def __init__(self, store: Store, *, slow_seconds: float, key_ttl_seconds: float) -> None:
        self._intents = store.table("intent", intents.read_intent)
        self._refunds = store.table("refund", intents.read_refund)
        self._disputes = store.table("dispute", disputes.read_dispute)
        self._failed_once = store.table("stumble", dict)
        self._keys = IdempotencyKeys(store, key_ttl_seconds)
        self._slow_seconds = slow_seconds
        self._refunds_of: dict[str, list[Refund]] = {}
        for refund in self._refunds.values():
            self._refunds_of.setdefault(refund.intent, []).append(refund)
        self._disputes_of: dict[str, list[str]] = {}
        for dispute in self._disputes.values():
            self._disputes_of.setdefault(dispute.intent, []).append(dispute.id)

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
        intent = self._intent(_intent_of(form.text("charge")) or form.required("payment_intent"))
        amount = form.whole("amount")
        if amount is not None:
            _refuse(refuse_fraction(amount, intent.currency))
        self._refuse_refund(intent)
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

    def _refuse_refund(self, intent: Intent) -> None:
        charge = f"ch_{intent.id[3:]}"
        known = [self._disputes.get(id_) for id_ in self._disputes_of.get(intent.id, ())]
        if disputes.is_charged_back(dispute for dispute in known if dispute):
            message = f"Charge {charge} has been charged back; cannot issue a refund."
            raise Refusal(400, message, code="charge_disputed")
        if _method(intent.method).refund_behaviour is RefundBehaviour.REFUSED:
            message = f"Charge {charge} cannot be refunded: the balance of the account is not sufficient."
            raise Refusal(400, message, code="balance_insufficient")

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

    def open_dispute(self, body: bytes) -> object:
        """What a customer's bank does: `intent`, and if wanted `amount` and `status`, as a JSON object."""
        wanted = orjson.loads(body)
        intent = self._intents.get(wanted["intent"])
        if intent is None:
            raise LookupError(f"no intent {wanted['intent']}")
        status = DisputeStatus(wanted.get("status", DisputeStatus.NEEDS_RESPONSE))
        try:
            return dispute_document(self._dispute(intent, wanted.get("amount"), status), time.time())
        except WrongState as problem:
            raise ValueError(str(problem)) from problem

    async def dispute(self, request: web.Request, _: bytes) -> Reply:
        """GET /v1/disputes/{id}"""
        return _answer(dispute_document(self._known_dispute(request), time.time()))

    async def disputes(self, request: web.Request, _: bytes) -> Reply:
        """GET /v1/disputes"""
        limit, after = _window(request)
        wanted = _intent_of(request.query.get("charge")) or request.query.get("payment_intent")
        try:
            rows, has_more = self._disputes.page(limit, after, lambda found: wanted in (None, found.intent))
        except KeyError as problem:
            raise _missing("dispute", after or "", "starting_after") from problem
        return page(rows, has_more, "/v1/disputes", dispute_document, time.time())

    async def answer_dispute(self, request: web.Request, body: bytes) -> Reply:
        """POST /v1/disputes/{id}"""
        evidence = Form(body.decode()).group("evidence").get("uncategorized_text")
        return self._change_dispute(disputes.answer, self._known_dispute(request), evidence)

    async def close_dispute(self, request: web.Request, _: bytes) -> Reply:
        """POST /v1/disputes/{id}/close"""
        return self._change_dispute(disputes.close, self._known_dispute(request))

    def _change_dispute(self, change: Callable[..., Dispute], dispute: Dispute, *more: object) -> Reply:
        try:
            dispute = change(dispute, *more)
        except WrongState as problem:
            raise Refusal(400, str(problem)) from problem
        return _answer(dispute_document(self._disputes.put(dispute.id, dispute), time.time()))

    def _known_dispute(self, request: web.Request) -> Dispute:
        id_ = request.match_info["id"]
        dispute = self._disputes.get(id_)
        if dispute is None:
            raise _missing("dispute", id_, "id")
        return dispute

    def _dispute(self, intent: Intent, amount: int | None, status: DisputeStatus) -> Dispute:
        id_ = f"du_{secrets.token_hex(12)}"
        dispute = self._disputes.put(id_, disputes.open_dispute(id_, intent, amount, status, time.time()))
        self._disputes_of.setdefault(intent.id, []).append(id_)
        return dispute

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
        if method.is_disputed:
            self._dispute(intent, None, DisputeStatus.NEEDS_RESPONSE)
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
        ("GET", "/v1/disputes", payments.disputes),
        ("GET", "/v1/disputes/{id}", payments.dispute),
        ("POST", "/v1/disputes/{id}", payments.answer_dispute),
        ("POST", "/v1/disputes/{id}/close", payments.close_dispute),
    ):
        add[verb](path, on(operation))
    exchange.add_control(app)
    app.router.add_post("/_sandbox/prune", exchange.control(payments.prune))
    app.router.add_post("/_sandbox/disputes", exchange.control(payments.open_dispute))
    return Surface(app, exchange)


def _refuse(refusal: AmountRefusal | None) -> None:
    if refusal is not None:
        raise Refusal(400, refusal.message, code=refusal.code, param=refusal.param, is_replayed=False)


def _intent_of(charge: str | None) -> str | None:
    """Here an intent has one charge, whose id follows from the intent's."""
    return f"pi_{charge[3:]}" if charge else None


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
