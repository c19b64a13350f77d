"""Access for scripts of other origins (CORS), for shops whose pages call this API from the browser."""

import re
from typing import Any

ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:.]+\](:[0-9]{1,5})?")

RULES: dict[str, Any] = {
    "allow_methods": ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"),
    "allow_headers": (
        "Authorization", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "traceparent",
    ),
    "expose_headers": (
        "ETag", "Idempotent-Replayed", "Location", "RateLimit", "RateLimit-Policy", "Retry-After",
        "WWW-Authenticate",
    ),
    # There are no cookies: a script needs an access token.
    "allow_credentials": False,
}  # fmt: skip
"""What Starlette's `CORSMiddleware` is told beside the origins."""


def origins(text: str) -> tuple[str, ...]:
    """Parse a list of origins such as `https://shop.example, http://localhost:3000`.

    They are compared as text with the header Origin, as browsers write it (RFC 6454, 6.2): in lower case,
    without a path, and without the default port.

    Raises:
        ValueError: one of them is not an origin; `*` is none.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in found:
        is_default_port = origin.endswith(":443" if origin.startswith("https:") else ":80")
        if not ORIGIN.fullmatch(origin) or is_default_port:
            raise ValueError(f"{origin!r} is not an origin as browsers send it, such as https://shop.example")
    return found
