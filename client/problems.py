"""What the gateway says when it does not do what was asked, as one exception."""

from collections.abc import Mapping, Sequence
from typing import Any

NO_ANSWER = "no_answer"
"""The code where nobody answered: whether anything was done is not known."""


class ApiProblem(Exception):  # noqa: N818
    """A problem document (RFC 9457), or that there was no answer at all. Decide by `code`.

    Args:
        status: Of the answer; 0 where there was none.
        code: The last part of the document's `type`; `NO_ANSWER`, or `unknown` where it was no problem
            document, as from a proxy.
        detail: What happened and what to do, for people.
        errors: `{pointer | parameter, detail}` for each place that is wrong.
        retry_after: Seconds after which the request may be sent again, where the gateway said so.
        document: All of it.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after: float | None = None,
        document: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{detail} ({code})")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after = retry_after
        self.document = document or {}


def problem_of(status: int, document: Any, retry_after: str | None) -> ApiProblem:
    """The problem that an answer tells of.

    Args:
        document: The body as JSON; None where it was none.
        retry_after: The header; only seconds are read, a date never comes from our gateway.
    """
    seconds = float(retry_after) if retry_after is not None and retry_after.isdecimal() else None
    if not isinstance(document, dict) or "code" not in document:
        detail = f"The answer was {status}, and nothing that says why."
        return ApiProblem(status, "unknown", detail, retry_after=seconds)
    return ApiProblem(
        status,
        str(document["code"]),
        str(document.get("detail", document.get("title", ""))),
        errors=document.get("errors", ()),
        retry_after=seconds,
        document=document,
    )
