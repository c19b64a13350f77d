"""What only Prometheus knows: which providers are given a rest, by their breakers."""

import aiohttp
import orjson
import structlog

_QUERY = "max by (provider) (orderplane_breaker_state) == 2"
_MAX_BYTES = 64 * 1024

log = structlog.get_logger(__name__)


class Prometheus:
    """One server; without an address it knows nothing."""

    def __init__(self, http: aiohttp.ClientSession, url: str | None) -> None:
        self._http = http
        self._url = url.rstrip("/") if url else None

    async def open_breakers(self) -> list[str] | None:
        """The providers whose breaker is open; None where that is not known."""
        if self._url is None:
            return None
        try:
            async with self._http.get(f"{self._url}/api/v1/query", params={"query": _QUERY}) as answer:
                document = orjson.loads(await answer.content.read(_MAX_BYTES))
            return sorted(str(each["metric"].get("provider", "")) for each in document["data"]["result"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as problem:
            log.warning("Prometheus did not answer", why=type(problem).__name__)
            return None
