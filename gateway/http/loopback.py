"""Serve only requests that are meant for this machine. Pure ASGI.

Listening on 127.0.0.1 keeps other machines out, but not the web pages that a browser on this one shows: a
page whose name is made to resolve to 127.0.0.1 (DNS rebinding) is let through by the browser's
same-origin rule. Its requests carry that name in `Host`. Goes when callers are authenticated.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from orderplane.gateway.http.problems import Problem, response_of

_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})


class LoopbackOnly:
    """Refuses any other `Host` with 421."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_loopback(_host_of(scope)):
            problem = Problem("misdirected_request", "Call it as 127.0.0.1 or localhost, from this machine.")
            await response_of(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Whether a `Host` header, with or without a port, names this machine."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit():
        name = host
    return name.lower() in _NAMES


def _host_of(scope: Scope) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
