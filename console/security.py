"""What keeps other pages, and other people's scripts, out of the console. Pure."""

from collections.abc import Mapping
from urllib.parse import urlsplit

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'",
        "font-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
    )
)  # fmt: skip

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: with it, browsers send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
"""Of every answer."""


def is_from_own_page(headers: Mapping[str, str]) -> bool:
    """Whether a request that changes something was made by a page of ours.

    Every browser of the last years sends Sec-Fetch-Site; an older one sends Origin with a form. What sends
    neither is no browser, and has nobody's cookies.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def own_path(path: str | None) -> str:
    """Where to go after the sign-in: a path of the console, whatever was asked for."""
    is_own = path is not None and path.startswith("/console/") and not path.startswith("/console/sign-")
    is_plain = is_own and path is not None and path.isprintable() and "\\" not in path and "//" not in path
    return path if is_plain and path is not None else "/console/"
