"""Read the forms of the token endpoints: `application/x-www-form-urlencoded` in UTF-8, and nothing else.

FastAPI's own forms would also read multipart/form-data, in every charset that Python has. Decoding some of
them, such as punycode, takes time that grows with the square of the length.
"""

from typing import TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError

from orderplane.gateway.http.media_types import require_media_type
from orderplane.gateway.http.problems import Problem

FORM = "application/x-www-form-urlencoded"
MAX_FORM = 16 * 1024
MAX_FIELDS = 32

Model = TypeVar("Model", bound=BaseModel)


def read_form(content_type: str | None, raw: bytes, model: type[Model]) -> Model:
    """Parse and validate a form.

    As RFC 6749, 3.2 asks: a field without a value counts as left out, an unknown one is ignored, and none may
    come twice. Without a body, all fields are left out.

    Raises:
        Problem: `unsupported_media_type`, `body_too_large`, `invalid_request`, `validation_failed`.
    """
    if raw:
        require_media_type(content_type, (FORM,))
    if len(raw) > MAX_FORM:
        raise Problem("body_too_large", f"A form may have {MAX_FORM} bytes at most.")
    try:
        pairs = parse_qsl(raw.decode(), errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError:
        raise _invalid(f"The form is not UTF-8, or has more than {MAX_FIELDS} fields.") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _invalid("A field of the form is given twice.")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        places = [{"parameter": str(detail["loc"][0]), "detail": detail["msg"]} for detail in error.errors()]
        raise Problem("validation_failed", "Correct the fields in `errors`.", errors=places) from None


def _invalid(detail: str) -> Problem:
    extra = {"error": "invalid_request", "error_description": detail}
    return Problem("invalid_request", detail, extra=extra, headers={"Cache-Control": "no-store"})
