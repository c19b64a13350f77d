"""A small Kubernetes API client on aiohttp and orjson, with the configuration of the `kubernetes` package.

The generated client costs several times the CPU for each write (docs/decisions/0009-thin-client.md).
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

import aiohttp
import orjson
from prometheus_client import Counter

from orderplane.adapters.kubernetes.configuration import Credentials, load_configuration, tls_context
from orderplane.crds.api_errors import ApiError, Overloaded, Unauthorized, Unavailable, error_from
from orderplane.crds.meta import GROUP, VERSION, Kind
from orderplane.ledgers.awaiting import awaiting

Json = dict[str, Any]

REQUESTS = Counter(
    "orderplane_kubernetes_requests_total",
    "Requests to the API server.",
    ["verb", "kind", "code"],
)

RBAC_WARM_UP_SECONDS = 5.0
"""An API server that has just started answers before its RBAC informers are synced, and forbids everything.
So for this long after a request without an answer, and at the start of this client, which may have come up
together with the server, a request that RBAC forbids is repeated."""
_RBAC_RETRY_SECONDS = 0.1

WATCH_GRACE_SECONDS = 5.0
_MAX_EVENT_BYTES = 8 * 2**20
"""More than an object may have in etcd, so that a stream without line ends does not fill the memory."""

_DEFAULT_PUSHBACK_SECONDS = 1.0
_MAX_PUSHBACK_SECONDS = 30.0
"""Bounds of the `Retry-After` of a 429; the first is for an answer without one."""


class Page:
    """One page of a list; `continue_token` is None on the last."""

    __slots__ = ("continue_token", "items", "resource_version")

    def __init__(self, document: Json) -> None:
        self.items: list[Json] = document["items"]
        self.resource_version = int(document["metadata"]["resourceVersion"] or 0)
        self.continue_token: str | None = document["metadata"].get("continue") or None


class ApiClient:
    """Client of one API server. Every method raises the types of `crds.api_errors`."""

    def __init__(
        self, session: aiohttp.ClientSession, host: str, credentials: Credentials | None = None
    ) -> None:
        self._session = session
        self._host = host.rstrip("/")
        self._credentials = credentials
        self._untrusted_at = time.monotonic()
        self._pushed_back_until = 0.0

    @property
    def pushback(self) -> float:
        """Seconds until the server wants requests again, as its last 429 said; 0 where it wants them now."""
        return max(0.0, self._pushed_back_until - time.monotonic())

    @classmethod
    async def connect(
        cls,
        *,
        user_agent: str,
        kubeconfig: str | None = None,
        context: str | None = None,
        connections: int = 64,
        timeout_seconds: float = 10.0,
    ) -> Self:
        """Read `KUBECONFIG`, `~/.kube/config` or the pod's service account, and open a session.

        Args:
            kubeconfig: A file to read instead.
            connections: The most connections that are open at a time.
            timeout_seconds: The most that one request may take, connecting included.

        Raises:
            kubernetes.config.ConfigException: there is no usable configuration.
        """
        settings = await asyncio.to_thread(load_configuration, kubeconfig, context)
        credentials = Credentials(lambda: settings.get_api_key_with_prefix("BearerToken"))
        await credentials.header()
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections, ssl=tls_context(settings), keepalive_timeout=60
            ),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds, connect=timeout_seconds / 2),
            headers={"User-Agent": user_agent, "Accept": "application/json"},
        )
        return cls(session, settings.host, credentials)

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def create(self, kind: Kind, namespace: str, body: Mapping[str, Any]) -> Json:
        """Create one object; returns it as stored."""
        return await self._send("POST", kind, _path(kind, namespace), body)

    async def get(self, kind: Kind, namespace: str, name: str, *, from_cache: bool = False) -> Json:
        """Read one object; with `from_cache` from the server's watch cache, which may be stale."""
        query = {"resourceVersion": "0"} if from_cache else None
        return await self._send("GET", kind, _path(kind, namespace, name), query=query)

    async def list_page(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        limit: int = 500,
        continue_token: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Page:
        """Read one page, consistently: a list with `resourceVersion=0` would ignore the limit."""
        query = {"limit": str(limit)}
        if continue_token:
            query["continue"] = continue_token
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        return Page(await self._send("GET", kind, _path(kind, namespace), query=query))

    @asynccontextmanager
    async def watch(
        self, kind: Kind, namespace: str | None = None, *, since: int, seconds: int
    ) -> AsyncIterator[AsyncIterator[Json]]:
        """Open a stream of the events after the version `since`, bookmarks included; the server ends it.

        Args:
            since: A version that was seen; with 0 every object comes first, as ADDED.
            seconds: After these the server ends it. A stream that lasts `WATCH_GRACE_SECONDS` longer is dead.

        Raises:
            Gone: the server does not have the events since that version any more.
            Unavailable: the stream was cut, or is dead.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(since),
            "timeoutSeconds": str(seconds),
        }
        code = "error"
        try:
            async with self._session.get(
                self._host + _path(kind, namespace),
                params=query,
                headers=await self._headers(),
                timeout=aiohttp.ClientTimeout(total=seconds + WATCH_GRACE_SECONDS, sock_connect=5),
            ) as response:
                code = str(response.status)
                if response.status >= 400:
                    raise self._remember_pushback(error_from(response.status, _decode(await response.read())))
                yield _events(response.content)
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as problem:
            raise Unavailable(0, "NoAnswer", f"watch {kind.plural}: {type(problem).__name__}") from problem
        finally:
            REQUESTS.labels("WATCH", kind.value, code).inc()

    async def read_path(self, path: str) -> Json:
        """Read an object that is none of our kinds."""
        return await self._send("GET", _resource_in(path), path)

    async def apply_path(self, path: str, body: Mapping[str, Any], *, manager: str) -> Json:
        """Apply an object that is none of our kinds, on the server; what others have of its fields is taken.

        Args:
            manager: The field manager, who owns the fields of `body` from then on.
        """
        query = {"fieldManager": manager, "force": "true"}
        # JSON is valid YAML.
        return await self._send(
            "PATCH", _resource_in(path), path, body, query=query, content_type="application/apply-patch+yaml"
        )

    async def delete_path(self, path: str) -> Json:
        """Delete an object that is none of our kinds."""
        return await self._send("DELETE", _resource_in(path), path)

    async def version(self) -> str:
        """The server's version, as `v1.33.1`."""
        document = await self._send("GET", "Version", "/version")
        return str(document["gitVersion"])

    async def metrics(self) -> str:
        """The server's own metrics, as text."""
        async with self._session.get(self._host + "/metrics", headers=await self._headers()) as response:
            text = await response.text()
            if response.status >= 400:
                raise error_from(response.status, text)
            return text

    async def put_status(
        self, kind: Kind, namespace: str, name: str, resource_version: str, status: Json
    ) -> Json:
        """Replace the status if `resource_version` is still the newest; returns the whole object."""
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind.value,
            "metadata": {"name": name, "namespace": namespace, "resourceVersion": resource_version},
            "status": status,
        }
        return await self._send("PUT", kind, f"{_path(kind, namespace, name)}/status", body)

    async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        """Apply a JSON merge patch (RFC 7396). `metadata.resourceVersion` in it makes it conditional."""
        return await self._send(
            "PATCH", kind, _path(kind, namespace, name), patch, content_type="application/merge-patch+json"
        )

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Json:
        """Delete an object; only if it has this uid and this resourceVersion, where they are given.

        Returns:
            The object if it has finalizers, else a metav1.Status.
        """
        body: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        conditions = {"uid": uid, "resourceVersion": resource_version}
        body["preconditions"] = {name: value for name, value in conditions.items() if value is not None}
        return await self._send("DELETE", kind, _path(kind, namespace, name), body)

    async def create_event(self, namespace: str, body: Json) -> Json:
        """Create a v1 Event."""
        return await self._send("POST", "Event", f"/api/v1/namespaces/{namespace}/events", body)

    async def _send(
        self,
        method: str,
        kind: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: dict[str, str] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        while True:
            try:
                with awaiting("kubernetes", f"{method} {kind}"):
                    return await self._send_once(method, kind, path, body, query, content_type)
            except Unauthorized:
                if not self._may_be_starting():
                    raise
            await asyncio.sleep(_RBAC_RETRY_SECONDS)

    def _may_be_starting(self) -> bool:
        return time.monotonic() - self._untrusted_at < RBAC_WARM_UP_SECONDS

    async def _send_once(
        self,
        method: str,
        kind: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: dict[str, str] | None,
        content_type: str,
    ) -> Json:
        label = kind.value if isinstance(kind, Kind) else kind
        code = "error"
        try:
            async with self._session.request(
                method,
                self._host + path,
                params=query,
                data=orjson.dumps(body) if body is not None else None,
                headers=await self._headers(content_type if body is not None else None),
            ) as response:
                code = str(response.status)
                raw = await response.read()
                if response.status >= 400:
                    raise self._remember_pushback(
                        error_from(response.status, _decode(raw), response.headers.get("Retry-After"))
                    )
                document: Json = orjson.loads(raw)
                if isinstance(kind, Kind):
                    # It knows our roles. Everybody may ask for its version.
                    self._untrusted_at = -math.inf
                return document
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            self._untrusted_at = time.monotonic()
            raise Unavailable(
                0, "NoAnswer", f"{method} {path}: {type(problem).__name__}: {problem}"
            ) from problem
        finally:
            REQUESTS.labels(method, label, code).inc()

    async def _headers(self, content_type: str | None = None) -> dict[str, str]:
        headers = {"Content-Type": content_type} if content_type else {}
        if self._credentials is not None and (authorization := await self._credentials.header()):
            headers["Authorization"] = authorization
        return headers

    def _remember_pushback(self, error: ApiError) -> ApiError:
        if isinstance(error, Overloaded):
            seconds = min(error.retry_after or _DEFAULT_PUSHBACK_SECONDS, _MAX_PUSHBACK_SECONDS)
            self._pushed_back_until = time.monotonic() + seconds
        return error


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[Json]:
    buffer = b""
    async for chunk in content.iter_any():
        *lines, buffer = (buffer + chunk).split(b"\n")
        if len(buffer) > _MAX_EVENT_BYTES:
            raise aiohttp.ClientPayloadError("an event has no end")
        for line in lines:
            event: Json = orjson.loads(line)
            if event["type"] == "ERROR":
                raise error_from(event["object"].get("code") or 500, event["object"])
            yield event


def _path(kind: Kind, namespace: str | None, name: str | None = None) -> str:
    base = f"/apis/{GROUP}/{VERSION}"
    collection = f"{base}/namespaces/{namespace}/{kind.plural}" if namespace else f"{base}/{kind.plural}"
    return f"{collection}/{name}" if name else collection


def _resource_in(path: str) -> str:
    return path.rsplit("/", 2)[-2]


def _decode(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")[:500]
