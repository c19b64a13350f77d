"""Whether the CRDs of the cluster are at least as new as this version: see docs/upgrade.md."""

from typing import Any, Protocol

from orderplane.adapters.settings import SettingsError
from orderplane.crds.api_errors import NotFound
from orderplane.crds.meta import GROUP, REVISION, REVISION_ANNOTATION, Kind

_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Api(Protocol):
    """What is needed of `ApiClient`."""

    async def read_path(self, path: str) -> dict[str, Any]: ...


async def check_crds(api: Api) -> None:
    """Compare the revision of each CRD with the one of this version. A newer one is right.

    Raises:
        SettingsError: one is missing or older; the message says what to run.
        ApiError: the API server cannot be asked.
    """
    found = {kind: await _revision(api, kind) for kind in Kind}
    problems = [
        f"The CRD of {kind} {'is not installed' if revision is None else f'has revision {revision}'}; this "
        f"version needs revision {REVISION}."
        for kind, revision in found.items()
        if revision is None or revision < REVISION
    ]
    if problems:
        raise SettingsError(*problems, "Run: orderplane crds install")


async def _revision(api: Api, kind: Kind) -> int | None:
    try:
        document = await api.read_path(f"{_DEFINITIONS}/{kind.plural}.{GROUP}")
    except NotFound:
        return None
    written = str((document["metadata"].get("annotations") or {}).get(REVISION_ANNOTATION, ""))
    return int(written) if written.isascii() and written.isdigit() else 0
