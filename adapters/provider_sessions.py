"""The HTTP session that a provider is spoken to through: its connections, its times, and what never left."""

import aiohttp

CONNECTIONS = 32
"""At once to one provider: more than there are workers that may call it."""

_CONNECT_SECONDS = 3.0

NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
"""Of all that a request can fail with, what says that nothing was sent."""


def open_session(seconds: float) -> aiohttp.ClientSession:
    """Open one; every request is given `seconds`, and up to three of them to get a connection."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(total=seconds, connect=min(seconds, _CONNECT_SECONDS)),
    )
