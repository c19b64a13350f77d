"""The names under which callers of the client know its refusals."""

from orderplane.crds.api_errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    NamespaceTerminating,
    NotFound,
    Overloaded,
    Unavailable,
    error_from,
)

__all__ = [
    "AlreadyExists",
    "ApiError",
    "Conflict",
    "Forbidden",
    "Gone",
    "Invalid",
    "NamespaceTerminating",
    "NotFound",
    "Overloaded",
    "Unavailable",
    "error_from",
]
