"""Read JSON bodies. Problems name places in the body, never its values."""

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from orderplane.crds.meta import SKU_PATTERN
from orderplane.gateway.http.media_types import require_media_type
from orderplane.gateway.http.problems import Problem

STRICT = ConfigDict(extra="forbid", strict=True)
"""Configuration of every request model: unknown members are refused, and the string "1" is not a number."""

MAX_DEPTH = 8
MAX_VALUES = 1000
"""The most values that a document may have; an order of 50 items has about 220. For a value that is wrong,
validation takes 20 times as long as parsing."""
MAX_ERRORS = 20

_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
Loc = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

_MESSAGES = {
    "extra_forbidden": "There is no such field here. Take it out.",
    "missing": "This field is required.",
}
_SKU = re.compile(SKU_PATTERN)


def check_media_type(content_type: str | None, *more: str) -> None:
    """Require a JSON body in UTF-8.

    Other types of JSON (`application/...+json`) are refused: they may give the members another meaning.

    Args:
        more: Media types that are accepted beside `application/json`.

    Raises:
        Problem: `unsupported_media_type`.
    """
    require_media_type(content_type, ("application/json", *more))


@dataclass(frozen=True, slots=True)
class Body(Generic[Model]):
    """A validated request, and the client's JSON, of which the fingerprint is made."""

    request: Model
    document: Any


def read_body(raw: bytes, model: type[Model]) -> Body[Model]:
    """Parse and validate a body.

    Raises:
        Problem: `invalid_json`, `validation_failed`.
    """
    document = parse_json(raw)
    return Body(validate_json(document, model), document)


def parse_json(raw: bytes) -> Any:
    """Parse the JSON of a body.

    Raises:
        Problem: `invalid_json`.
    """
    if raw.startswith(codecs.BOM_UTF8):
        # RFC 8259, 8.1: a sender must not add it; a recipient may ignore it or refuse.
        raise Problem("invalid_json", "The body begins with a byte order mark. Send UTF-8 without one.")
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Problem("invalid_json", f"The body is not JSON: look at {where}. It must be UTF-8.") from None
    if has_more_values_than(MAX_VALUES, document):
        raise Problem("invalid_json", f"The body has more than {MAX_VALUES} values.")
    if is_deeper_than(MAX_DEPTH, document):
        raise Problem("invalid_json", f"The body nests deeper than {MAX_DEPTH} levels.")
    return document


def validate_json(document: Any, model: type[Model]) -> Model:
    """Validate a JSON document as a request.

    The document is written anew for the validation. So a member that was sent twice has one value for all
    readers of the request: the last one.

    Raises:
        Problem: `validation_failed`.
    """
    try:
        return model.model_validate_json(orjson.dumps(document))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        inner = innermost([detail["loc"] for detail in details])
        places = [
            _place(detail["loc"], detail["type"], detail["msg"])
            for detail in details
            if detail["loc"] in inner
        ][:MAX_ERRORS]
        raise Problem("validation_failed", "Correct the fields in `errors`.", errors=places) from None


def apply_merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396) to a document: null removes a member."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = apply_merge_patch(result.get(name), value)
    return result


def is_deeper_than(limit: int, document: Any) -> bool:
    """Whether arrays and objects nest more than `limit` deep."""
    level: list[Any] = [[document]]
    for _ in range(limit + 1):
        level = [part for container in level for part in _parts(container) if isinstance(part, dict | list)]
    return bool(level)


def has_more_values_than(limit: int, document: Any) -> bool:
    """Whether a document has more than `limit` values: arrays, objects, and what is in them."""
    level: list[Any] = [document]
    left = limit
    while level:
        left -= len(level)
        if left < 0:
            return True
        level = [part for container in level for part in islice(_parts(container), left + 1)]
    return False


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def innermost(locs: Sequence[Loc]) -> set[Loc]:
    """The locations that contain no other one.

    pydantic drops a wrong item and then also reports its list as too short; only the item is of use.
    """
    outer = {loc[:size] for loc in locs for size in range(len(loc))}
    return set(locs) - outer


def json_pointer(loc: Loc) -> str:
    """A JSON pointer as a URI fragment (RFC 6901, 6).

    It ends before a member whose name is not a plain field name: such a name is text of the client, and
    problems do not repeat that.
    """
    pointer = "#"
    for part in loc:
        if isinstance(part, str) and not _FIELD_NAME.fullmatch(part):
            break
        pointer += f"/{part}"
    return pointer


def _place(loc: Loc, kind: str, message: str) -> dict[str, str]:
    detail = _MESSAGES.get(kind, message).removeprefix("Value error, ")
    return {"pointer": json_pointer(loc), "detail": detail}


def is_sku(text: str) -> bool:
    """Whether the text has the form of a SKU; if not, the database need not be asked."""
    return _SKU.fullmatch(text) is not None
