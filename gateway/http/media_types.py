"""Content-Type of requests (RFC 9110, 8.3)."""

import re
from collections.abc import Sequence

from orderplane.gateway.http.problems import Problem

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE = re.compile(rf"{_NAME}/{_NAME}")
_PARAMETER = re.compile(rf'[ \t]*;[ \t]*(?:({_NAME})=({_NAME}|"(?:[^"\\]|\\.)*"))?')
_ESCAPE = re.compile(r"\\(.)")


def require_media_type(content_type: str | None, accepted: Sequence[str]) -> None:
    """Require that a body has one of the media types, in UTF-8.

    No parameter but `charset` changes how these types are read, so the others are ignored.

    Args:
        accepted: Media types in lower case.

    Raises:
        Problem: `unsupported_media_type`.
    """
    media_type, charset = parse_content_type(content_type or "")
    if media_type not in accepted or charset not in (None, "utf-8"):
        raise Problem(
            "unsupported_media_type",
            f"Send the body with Content-Type: {' or '.join(accepted)}, in UTF-8.",
            headers={"Accept": ", ".join(accepted)},
        )


def parse_content_type(text: str) -> tuple[str, str | None]:
    """The media type and the charset, both in lower case.

    A header that is malformed has the media type "", which nothing accepts.
    """
    text = text.strip(" \t")
    media_type = _MEDIA_TYPE.match(text)
    if media_type is None:
        return "", None
    charset, end = None, media_type.end()
    while end < len(text):
        parameter = _PARAMETER.match(text, end)
        if parameter is None:
            return "", None
        end = parameter.end()
        if (parameter[1] or "").lower() == "charset":
            if charset is not None:
                return "", None
            charset = _unquoted(parameter[2]).lower()
    return media_type[0].lower(), charset


def _unquoted(value: str) -> str:
    return _ESCAPE.sub(r"\1", value[1:-1]) if value.startswith('"') else value
