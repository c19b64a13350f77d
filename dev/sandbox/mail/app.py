"""The mail sandbox: an SMTP server, and Mailpit's API to read its messages."""

import asyncio
import time
from collections.abc import AsyncIterator

import orjson
from aiohttp import web

from orderplane.dev.sandbox.exchange import Exchange, Reply, Surface
from orderplane.dev.sandbox.faults import read_faults
from orderplane.dev.sandbox.mail.server import Mailbox, SmtpConnection, SmtpFault
from orderplane.dev.sandbox.mail.wire import document_of, summary_of
from orderplane.dev.sandbox.store import Store


class Dialect:
    """Mailpit's general errors."""

    id_header = "X-Request-Id"

    def unauthorized(self) -> Reply:
        """401."""
        return error(401, "Unauthorized")

    def too_many(self) -> Reply:
        """429."""
        return error(429, "Too Many Requests")

    def broken(self) -> Reply:
        """500."""
        return error(500, "Internal Server Error")


def error(status: int, text: str) -> Reply:
    """An error document."""
    return Reply(status, orjson.dumps({"Error": text}))


class MailboxApi:
    """Accepted messages, newest first."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def list(self, request: web.Request, _: bytes) -> Reply:
        """GET /api/v1/messages"""
        start, limit = (
            request.query.get(name, default) for name, default in (("start", "0"), ("limit", "50"))
        )
        if not start.isdecimal() or not limit.isdecimal():
            return error(400, "start and limit have to be whole numbers")
        mails = list(self._mailbox.mails.values())[::-1]
        page = mails[int(start) : int(start) + int(limit)]
        document = {
            "total": len(mails),
            "count": len(page),
            "messages_count": len(mails),
            "start": int(start),
            "messages": [summary_of(mail) for mail in page],
        }
        return Reply(200, orjson.dumps(document))

    async def read(self, request: web.Request, _: bytes) -> Reply:
        """GET /api/v1/message/{id}"""
        mail = self._mailbox.mails.get(request.match_info["id"])
        return error(404, "Not found") if mail is None else Reply(200, orjson.dumps(document_of(mail)))

    def set_smtp_fault(self, body: bytes) -> object:
        """POST /_sandbox/smtp-faults"""
        now = time.time()
        self._mailbox.faults = read_faults(orjson.loads(body), now, SmtpFault)
        return self._mailbox.faults.describe(now)


def build(
    key: str, store: Store, *, smtp_port: int, host: str = "127.0.0.1", takes_smtputf8: bool = False
) -> Surface:
    """All routes. `key` is `USER:PASSWORD` of the API; the SMTP server needs no login.

    Args:
        takes_smtputf8: Announce SMTPUTF8; without it the SMTP server takes ASCII only.
    """
    mailbox = Mailbox(store)
    api = MailboxApi(mailbox)
    exchange = Exchange(key, store, Dialect())
    app = web.Application()

    async def serve_smtp(_: web.Application) -> AsyncIterator[None]:
        server = await asyncio.get_running_loop().create_server(
            lambda: SmtpConnection(mailbox, takes_smtputf8=takes_smtputf8), host, smtp_port
        )
        yield
        server.close()

    app.cleanup_ctx.append(serve_smtp)
    app.router.add_get("/api/v1/messages", exchange.serve(api.list))
    app.router.add_get("/api/v1/message/{id}", exchange.serve(api.read))
    exchange.add_control(app)
    app.router.add_post("/_sandbox/smtp-faults", exchange.control(api.set_smtp_fault))
    return Surface(app, exchange)
