"""Forms that pages of the console send."""

from collections.abc import Sequence
from urllib.parse import parse_qsl

from starlette.datastructures import MultiDict
from starlette.requests import ClientDisconnect, Request

MAX_BYTES = 64 * 1024
MAX_FIELDS = 400


class BadForm(Exception):  # noqa: N818
    """The form cannot be read, or lacks what it must have; the message may be shown."""


class Form:
    """The fields of a form, as text."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self._fields = MultiDict(fields)

    def text(self, name: str) -> str:
        """One line, without spaces around it; empty if it was left out."""
        value = self._fields.get(name, "")
        return str(value).strip()

    def block(self, name: str) -> str:
        """Lines of text; browsers end each with CR LF."""
        return str(self._fields.get(name, "")).replace("\r\n", "\n").strip()

    def all(self, name: str) -> list[str]:
        """Every value of that name."""
        return [str(value) for value in self._fields.getlist(name)]

    def number(self, name: str, what: str) -> int:
        """A whole number.

        Raises:
            BadForm: it is none.
        """
        try:
            return int(self.text(name))
        except ValueError:
            raise BadForm(f"{what} is a whole number.") from None


async def read_form(request: Request) -> Form:
    """The form in the body of a request.

    Raises:
        BadForm: it is too long, or no form.
    """
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise BadForm("A form was expected.")
    content = b""
    try:
        async for chunk in request.stream():
            content += chunk
            if len(content) > MAX_BYTES:
                raise BadForm("The form is too long.")
        return Form(parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except (ClientDisconnect, UnicodeDecodeError, ValueError):
        raise BadForm("The form cannot be read.") from None
