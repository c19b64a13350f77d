"""The routes of the SMS sandbox."""

import re
import secrets
import time
from urllib.parse import parse_qs, urlencode

import orjson
from aiohttp import web

from orderplane.dev.sandbox.exchange import Exchange, Handler, Operation, Perform, Reply, Surface
from orderplane.dev.sandbox.sms.wire import API, MAGIC, Dialect, Refusal, Sms, document_of, page
from orderplane.dev.sandbox.store import Store

_NUMBER = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_MAX_LENGTH = 1600
_MAX_PAGE = 1000


class Messages:
    """The messages of one account."""

    def __init__(self, store: Store, account: str) -> None:
        self._account = account
        self._messages = store.table("sms", lambda row: Sms(**row))

    async def with_refusals(self, request: web.Request, _body: bytes, perform: Perform) -> Reply:
        """Turn refusals into replies, and refuse other accounts."""
        try:
            if request.match_info["account"] != self._account:
                raise Refusal(20404, "The requested resource was not found", 404)
            return await perform()
        except Refusal as refusal:
            return refusal.reply()

    async def create(self, _: web.Request, body: bytes) -> Reply:
        """POST .../Messages.json"""
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        for name, code in (("To", 21604), ("From", 21603), ("Body", 21602)):
            if not form.get(name):
                raise Refusal(code, f"'{name}' is required")
        to = form["To"]
        if to in MAGIC:
            raise Refusal(*MAGIC[to])
        if not _NUMBER.match(to):
            raise Refusal(21211, "Invalid 'To' Phone Number")
        if len(form["Body"]) > _MAX_LENGTH:
            raise Refusal(21617, "The concatenated message body exceeds the 1600 character limit")
        sms = Sms(f"SM{secrets.token_hex(16)}", to, form["From"], form["Body"], time.time())
        self._messages.put(sms.sid, sms)
        return Reply(201, orjson.dumps(document_of(sms, self._account)))

    async def fetch(self, request: web.Request, _: bytes) -> Reply:
        """GET .../Messages/{sid}.json"""
        sms = self._messages.get(request.match_info["sid"])
        if sms is None:
            raise Refusal(20404, "The requested resource was not found", 404)
        return Reply(200, orjson.dumps(document_of(sms, self._account)))

    async def list(self, request: web.Request, _: bytes) -> Reply:
        """GET .../Messages.json, newest first"""
        query = dict(request.query)
        to, sender = query.get("To"), query.get("From")
        size = min(_MAX_PAGE, max(1, int(query.get("PageSize", "50"))))
        try:
            rows, has_more = self._messages.page(
                size,
                query.get("PageToken"),
                lambda sms: to in (None, sms.to) and sender in (None, sms.sender),
            )
        except KeyError:
            raise Refusal(20006, "Invalid PageToken") from None
        number = int(query.get("Page", "0")) + 1
        following = {**query, "Page": str(number), "PageToken": rows[-1].sid} if has_more else {}
        return page(rows, self._account, urlencode(following), query)


def build(key: str, store: Store) -> Surface:
    """All routes. `key` is `ACCOUNT_SID:AUTH_TOKEN`."""
    messages = Messages(store, key.partition(":")[0])
    exchange = Exchange(key, store, Dialect())
    app = web.Application()

    def on(operation: Operation) -> Handler:
        return exchange.serve(operation, messages.with_refusals)

    app.router.add_post(f"{API}/{{account}}/Messages.json", on(messages.create))
    app.router.add_get(f"{API}/{{account}}/Messages.json", on(messages.list))
    app.router.add_get(f"{API}/{{account}}/Messages/{{sid}}.json", on(messages.fetch))
    exchange.add_control(app)
    return Surface(app, exchange)
