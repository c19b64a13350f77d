"""Twilio's wire: form-encoded parameters in, JSON objects out.

Source of the shapes: https://www.twilio.com/docs/messaging/api/message-resource,
https://www.twilio.com/docs/usage/twilios-response, https://www.twilio.com/docs/iam/test-credentials
"""

from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

import orjson

from orderplane.dev.sandbox.exchange import Reply

API = "/2010-04-01/Accounts"

NOT_A_NUMBER, NOT_REACHABLE, UNSUBSCRIBED = "+15005550001", "+15005550009", "+15005550004"
"""Recipients that Twilio's own test credentials refuse."""

MAGIC: dict[str, tuple[int, str]] = {
    NOT_A_NUMBER: (21211, "Invalid 'To' Phone Number"),
    NOT_REACHABLE: (21614, "'To' number is not a valid mobile number"),
    UNSUBSCRIBED: (21610, "Attempt to send to unsubscribed recipient"),
}


@dataclass(frozen=True, slots=True)
class Sms:
    """One accepted message. `created` is unix time."""

    sid: str
    to: str
    sender: str
    body: str
    created: float


class Refusal(Exception):  # noqa: N818 - a verdict
    """A 4xx with Twilio's code."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self._reply = error(status, code, message)

    def reply(self) -> Reply:
        """The reply in Twilio's format."""
        return self._reply


class Dialect:
    """Twilio's general errors."""

    id_header = "Twilio-Request-Id"

    def unauthorized(self) -> Reply:
        """401."""
        return error(401, 20003, "Authenticate")

    def too_many(self) -> Reply:
        """429."""
        return error(429, 20429, "Too Many Requests")

    def broken(self) -> Reply:
        """500."""
        return error(500, 20500, "Internal Server Error")


def error(status: int, code: int, message: str) -> Reply:
    """An error document."""
    document = {
        "code": code, "message": message, "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }  # fmt: skip
    return Reply(status, orjson.dumps(document))


def document_of(sms: Sms, account: str) -> dict[str, Any]:
    """https://www.twilio.com/docs/messaging/api/message-resource#message-properties"""
    at = formatdate(sms.created)
    return {
        "account_sid": account,
        "api_version": "2010-04-01",
        "body": sms.body,
        "date_created": at,
        "date_sent": at,
        "date_updated": at,
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": sms.sender,
        "messaging_service_sid": None,
        "num_media": "0",
        "num_segments": str(1 + len(sms.body) // 160),
        "price": None,
        "price_unit": "USD",
        "sid": sms.sid,
        "status": "sent",
        "subresource_uris": {"media": f"{API}/{account}/Messages/{sms.sid}/Media.json"},
        "to": sms.to,
        "uri": f"{API}/{account}/Messages/{sms.sid}.json",
    }


def page(rows: list[Sms], account: str, after: str | None, query: dict[str, str]) -> Reply:
    """One page; `after` is the query of the next page, if there is one."""
    place = f"{API}/{account}/Messages.json"
    document = {
        "messages": [document_of(sms, account) for sms in rows],
        "page_size": int(query.get("PageSize", "50")),
        "page": int(query.get("Page", "0")),
        "uri": place,
        "first_page_uri": place,
        "next_page_uri": f"{place}?{after}" if after else None,
        "previous_page_uri": None,
        "start": 0,
        "end": max(0, len(rows) - 1),
    }
    return Reply(200, orjson.dumps(document))
