"""Errors of the API server (metav1.Status) as exception types."""

import re
from typing import Any

_RBAC_FORBIDS = re.compile(r'forbidden: User "[^"]*" cannot ')
"""The message of an authorizer. Source: `Forbidden` in
https://github.com/kubernetes/apiserver/blob/master/pkg/endpoints/handlers/responsewriters/errors.go"""


class ApiError(Exception):
    """The API server answered with an error.

    Args:
        status: The HTTP status; 0 if there was no answer (timeout, no connection).
        reason: metav1.Status.reason, as `NotFound`.
        message: metav1.Status.message.
        causes: metav1.Status.details.causes: reason, message and field of each.
        retry_after: Seconds, if the server gave them.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        causes: tuple[dict[str, Any], ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes
        self.retry_after = retry_after

    @property
    def summary(self) -> str:
        """The message without values of the object, which may be personal data: for logs and conditions."""
        if self.status != 422:
            return self.message
        fields = [str(cause.get("field")) for cause in self.causes[:5] if cause.get("field")]
        return f"{self.reason}: {', '.join(fields) or 'the object'}"


class NotFound(ApiError):  # noqa: N818
    """404."""


class AlreadyExists(ApiError):  # noqa: N818
    """409 on a create: the name is taken."""


class Conflict(ApiError):  # noqa: N818
    """409 on a write: the resourceVersion is not the newest, or a precondition failed."""


class Invalid(ApiError):  # noqa: N818
    """422, or 400: the object is wrong; `causes` says where."""


class Forbidden(ApiError):  # noqa: N818
    """403: refused by an admission policy, a webhook or a quota, or as the classes below."""


class Unauthorized(Forbidden):
    """401, or 403 by RBAC: this process may not do it now; the request had no effect.

    Roles are missing, or the server has just started: it answers before its RBAC informers are synced, and
    forbids everything until then. An object that is refused by a policy or a webhook is another `Forbidden`.
    """


class NamespaceTerminating(Forbidden):
    """403: the namespace is being deleted, so nothing can be created in it."""


class Gone(ApiError):  # noqa: N818
    """410: the continue token or resourceVersion is too old; list from the beginning."""


class Overloaded(ApiError):  # noqa: N818
    """429: the server sheds load; the request had no effect."""


class Unavailable(ApiError):  # noqa: N818
    """5xx, timeout or no connection: it is not known whether the request had an effect."""


class EtcdRestored(Exception):  # noqa: N818
    """The server's newest version is older than one that was seen: start again with empty caches."""


def error_from(status: int, body: Any, retry_after: str | None = None) -> ApiError:
    """The exception for an error response; `body` is the decoded metav1.Status, or other content."""
    document = body if isinstance(body, dict) else {}
    reason = str(document.get("reason") or "Unknown")
    message = str(document.get("message") or body or "no message")
    causes = tuple((document.get("details") or {}).get("causes") or ())
    seconds = float(retry_after) if retry_after and retry_after.isdigit() else None
    return _type_of(status, reason, message, causes)(status, reason, message, causes, seconds)


def _type_of(status: int, reason: str, message: str, causes: tuple[dict[str, Any], ...]) -> type[ApiError]:
    if status == 401 or (status == 403 and _RBAC_FORBIDS.search(message)):
        return Unauthorized
    if status == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return NamespaceTerminating
    if status == 409:
        return AlreadyExists if reason == "AlreadyExists" else Conflict
    by_status: dict[int, type[ApiError]] = {
        400: Invalid, 403: Forbidden, 404: NotFound, 410: Gone, 422: Invalid, 429: Overloaded,
    }  # fmt: skip
    return by_status.get(status, Unavailable if status >= 500 else ApiError)
