"""Reads Server-Sent Events (HTML Living Standard, 9.2.6). Those of this API have one line of data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event.

    Args:
        id: Where a stream goes on that is opened after it; None if it cannot.
    """

    name: str
    data: str
    id: str | None


class EventReader:
    """Makes events of the bytes of a stream, in pieces of any size.

    Args:
        last_id: Of the stream that this one goes on after.
    """

    def __init__(self, last_id: str | None = None) -> None:
        self.last_id = last_id
        """Send it as `Last-Event-ID`, so that the next stream goes on here."""
        self.retry_seconds: float | None = None
        """How long to wait before the next connection, if the server has said so."""
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """The events that are complete with this piece."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        events = (self._take(line.removesuffix(b"\r").decode()) for line in lines)
        return [event for event in events if event is not None]

    def _take(self, line: str) -> ServerEvent | None:
        if line:
            name, _, value = line.partition(":")
            self._fields[name] = value.removeprefix(" ")
            return None
        fields, self._fields = self._fields, {}
        if "id" in fields:
            self.last_id = fields["id"]
        if (retry := fields.get("retry", "")).isdecimal():
            self.retry_seconds = int(retry) / 1000
        if "data" not in fields:
            return None
        return ServerEvent(fields.get("event", "message"), fields["data"], fields.get("id"))
