"""Read JSON bodies and the text in them. Errors name places in the body, never values."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from orderplane.crds.meta import SKU_PATTERN
from orderplane.gateway.http.problems import Problem

STRICT = ConfigDict(extra="forbid", strict=True)
"""What every request model has: unknown members are refused, and "1" is no number."""

MAX_DEPTH = 8
MAX_ERRORS = 20

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
Loc = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)


def check_media_type(content_type: str | None, *more: str) -> None:
    """See that the body is JSON in UTF-8, by that name or one of `more`.

    Raises:
        Problem: `unsupported_media_type`.
    """
    media, _, parameters = (content_type or "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    taken = ("application/json", *more)
    if media.strip().lower() not in taken or charset not in ("", "charset=utf-8"):
        raise Problem(
            "unsupported_media_type", f"Send the body with Content-Type: {' or '.join(taken)}, in UTF-8."
        )


@dataclass(frozen=True, slots=True)
class Body(Generic[Model]):
    """A body that was read: the request, and the client's own JSON for the fingerprint."""

    request: Model
    document: Any


def read_body(raw: bytes, model: type[Model]) -> Body[Model]:
    """Parse and validate.

    Raises:
        Problem: `invalid_json`, `validation_failed`.
    """
    document = parsed(raw)
    return Body(validated(raw, model), document)


def parsed(raw: bytes) -> Any:
    """The JSON of a body.

    Raises:
        Problem: `invalid_json`.
    """
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Problem("invalid_json", f"The body is not JSON: look at {where}. It must be UTF-8.") from None
    if is_deeper_than(MAX_DEPTH, document):
        raise Problem("invalid_json", f"The body nests deeper than {MAX_DEPTH} levels.")
    return document


def validated(raw: bytes, model: type[Model]) -> Model:
    """The request that JSON stands for.

    Raises:
        Problem: `validation_failed`.
    """
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        inner = innermost([detail["loc"] for detail in details])
        places = [
            _place(detail["loc"], detail["type"], detail["msg"])
            for detail in details
            if detail["loc"] in inner
        ][:MAX_ERRORS]
        raise Problem("validation_failed", "Correct the fields in `errors`.", errors=places) from None


def merged(target: Any, patch: Any) -> Any:
    """What a JSON merge patch makes of a document (RFC 7396): null takes a member away."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def is_deeper_than(limit: int, document: Any) -> bool:
    """Whether arrays and objects nest more than `limit` deep."""
    if not isinstance(document, dict | list):
        return False
    inner = document.values() if isinstance(document, dict) else document
    return limit == 0 or any(is_deeper_than(limit - 1, part) for part in inner)


def innermost(locs: Sequence[Loc]) -> set[Loc]:
    """The places that hold no other: a list whose only item is wrong is not also called too short."""
    holders = {loc[:size] for loc in locs for size in range(len(loc))}
    return set(locs) - holders


def pointer_to(loc: Loc) -> str:
    """A JSON pointer as a URI fragment (RFC 6901, 6).

    It stops before a member whose name is no plain field name: such a name is the client's text, and
    may be anything.
    """
    pointer = "#"
    for part in loc:
        if isinstance(part, str) and not _FIELD_NAME.fullmatch(part):
            break
        pointer += f"/{part}"
    return pointer


def _place(loc: Loc, kind: str, message: str) -> dict[str, str]:
    detail = _WORDS.get(kind, message).removeprefix("Value error, ")
    return {"pointer": pointer_to(loc), "detail": detail}


_WORDS = {
    "extra_forbidden": "There is no such field here. Take it out.",
    "missing": "This field is required.",
}


CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SKU = re.compile(SKU_PATTERN)
_BUT_LINE_BREAKS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def _is_one_line(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("No control characters or line breaks here.")
    return text


def _is_text(text: str) -> str:
    if _BUT_LINE_BREAKS.search(text):
        raise ValueError("No control characters here but line breaks.")
    return text


def is_sku(text: str) -> bool:
    """Whether it can be a product's SKU; what is not one need not be looked for."""
    return _SKU.fullmatch(text) is not None


OneLine = Annotated[str, AfterValidator(_is_one_line)]
Lines = Annotated[str, AfterValidator(_is_text)]
