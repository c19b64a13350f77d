"""What controllers need of the API server."""

from typing import Any, Protocol

from orderplane.crds.meta import Kind

Json = dict[str, Any]


class Api(Protocol):
    """A few verbs. Each raises the types of `crds.api_errors`, `Unavailable` where no answer came."""

    async def create(self, kind: Kind, namespace: str, body: Json) -> Json:
        """Create one object; answers it as stored."""
        ...

    async def get(self, kind: Kind, namespace: str, name: str) -> Json:
        """Read one object by quorum."""
        ...

    async def put_status(
        self, kind: Kind, namespace: str, name: str, resource_version: str, status: Json
    ) -> Json:
        """Replace the status if nobody wrote since; answers the whole object."""
        ...

    async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        """RFC 7396; conditional where the patch carries a resourceVersion."""
        ...

    async def delete(self, kind: Kind, namespace: str, name: str, *, uid: str | None = None) -> Json:
        """Ask for an object to go; answers it as it waits for its finalizers, or a Status."""
        ...

    async def create_event(self, namespace: str, body: Json) -> Json:
        """Create an events.k8s.io/v1 Event."""
        ...
