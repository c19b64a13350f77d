"""An in-memory API server with the semantics that controllers rely on."""

import uuid
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any

from orderplane.crds.api_errors import AlreadyExists, Conflict, NamespaceTerminating, NotFound
from orderplane.crds.meta import Kind

from .steps import point

Json = dict[str, Any]
Event = tuple[Kind, str, Json]
FOREGROUND = "foregroundDeletion"
Backup = tuple[int, dict[tuple[Kind, str, str], Json]]


class ApiServer:
    """Implements `controllers.engine.cluster.Api`. Stored documents are never changed, only replaced."""

    def __init__(self, rng: Random, now: Callable[[], datetime]) -> None:
        self._rng = rng
        self._now = now
        self._version = 0
        self.objects: dict[tuple[Kind, str, str], Json] = {}
        self.events: list[Event] = []
        self.is_terminating = False
        self.emitted: set[str] = set()

    def snapshot(self) -> Backup:
        """What a backup of etcd holds."""
        return self._version, dict(self.objects)

    def restore(self, backup: Backup) -> None:
        """Go back to a backup; no watch tells of it."""
        self._version, objects = backup
        self.objects = dict(objects)

    async def create(self, kind: Kind, namespace: str, body: Json) -> Json:
        await point(f"create {kind}")
        document = self.make(kind, namespace, body)
        await point(f"created {kind}")
        return document

    def make(self, kind: Kind, namespace: str, body: Json) -> Json:
        """Store a new object, as `create` does."""
        key = kind, namespace, body["metadata"]["name"]
        self._check_namespace()
        if key in self.objects:
            raise AlreadyExists(409, "AlreadyExists", f"{key} exists")
        metadata = {
            **body["metadata"],
            "namespace": namespace,
            "uid": str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
            "creationTimestamp": self._now().isoformat(),
            "generation": 1,
        }
        return self._store(key, {**body, "metadata": metadata, "status": {"phase": "Pending"}}, "ADDED")

    async def get(self, kind: Kind, namespace: str, name: str) -> Json:
        await point(f"get {kind}")
        return self._found(kind, namespace, name)

    async def put_status(
        self, kind: Kind, namespace: str, name: str, resource_version: str, status: Json
    ) -> Json:
        await point(f"put {kind} status")
        known = self._found(kind, namespace, name)
        self._check(known, resource_version)
        document = self._store((kind, namespace, name), {**known, "status": status}, "MODIFIED")
        await point(f"put {kind} status done")
        return document

    async def merge_patch(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        await point(f"patch {kind}")
        known = self._found(kind, namespace, name)
        changes = dict(patch["metadata"])
        self._check(known, changes.pop("resourceVersion"))
        document = self._write_metadata((kind, namespace, name), known, changes)
        await point(f"patched {kind}")
        return document

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Json:
        await point(f"delete {kind}")
        known = self._found(kind, namespace, name)
        if uid is not None and known["metadata"]["uid"] != uid:
            raise Conflict(409, "Conflict", "the uid in the precondition is another's")
        if resource_version is not None:
            self._check(known, resource_version)
        document = self.mark_deleted((kind, namespace, name))
        await point(f"deleted {kind}")
        return document

    async def create_event(self, namespace: str, body: Json) -> Json:
        await point("event")
        self._check_namespace()
        if body["metadata"]["name"] in self.emitted:
            raise AlreadyExists(409, "AlreadyExists", "emitted before")
        self.emitted.add(body["metadata"]["name"])
        return body

    def mark_deleted(self, key: tuple[Kind, str, str]) -> Json:
        """What a DELETE does: wait for finalizers, or go at once."""
        known = self.objects[key]
        if known["metadata"].get("deletionTimestamp"):
            return known
        if not known["metadata"].get("finalizers"):
            return self._remove(key, known)
        return self._write_metadata(key, known, {"deletionTimestamp": self._now().isoformat()})

    def delete_in_foreground(self, key: tuple[Kind, str, str]) -> None:
        """A DELETE whose object stays until its children are gone: with the collector's finalizer."""
        finalizers = [*self.objects[key]["metadata"].get("finalizers", ()), FOREGROUND]
        self._write_metadata(key, self.objects[key], {"finalizers": finalizers})
        self.mark_deleted(key)

    def strip_finalizers(self, key: tuple[Kind, str, str]) -> None:
        """What a person with too many rights does."""
        self._write_metadata(key, self.objects[key], {"finalizers": []})

    def change_spec(self, key: tuple[Kind, str, str], **changes: Any) -> None:
        """An update by its owner."""
        known = self.objects[key]
        metadata = {**known["metadata"], "generation": known["metadata"]["generation"] + 1}
        self._store(key, {**known, "metadata": metadata, "spec": {**known["spec"], **changes}}, "MODIFIED")

    def annotate(self, key: tuple[Kind, str, str], name: str, value: str) -> None:
        """An annotation by its owner."""
        known = self.objects[key]
        annotations = {**known["metadata"].get("annotations", {}), name: value}
        self._write_metadata(key, known, {"annotations": annotations})

    def collect_garbage(self) -> None:
        """Delete what names an owner that is gone; let go of foreground owners without children."""
        for key, document in list(self.objects.items()):
            finalizers = document["metadata"].get("finalizers", ())
            if FOREGROUND in finalizers and not self._children_of(document):
                rest = [name for name in finalizers if name != FOREGROUND]
                self._write_metadata(key, document, {"finalizers": rest})
        alive = {document["metadata"]["uid"] for document in self.objects.values()}
        for key, document in list(self.objects.items()):
            owners = document["metadata"].get("ownerReferences", ())
            if owners and all(owner["uid"] not in alive for owner in owners) and key in self.objects:
                self.mark_deleted(key)

    def listed(self, kind: Kind) -> tuple[list[Json], int]:
        """Everything of a kind, and as of which version."""
        return [d for (k, _, _), d in self.objects.items() if k is kind], self._version

    def _check_namespace(self) -> None:
        if self.is_terminating:
            raise NamespaceTerminating(403, "Forbidden", "the namespace is being terminated")

    def _children_of(self, owner: Json) -> list[Json]:
        uid = owner["metadata"]["uid"]
        return [
            document
            for document in self.objects.values()
            if any(reference["uid"] == uid for reference in document["metadata"].get("ownerReferences", ()))
        ]

    def _write_metadata(self, key: tuple[Kind, str, str], known: Json, changes: Json) -> Json:
        document = {**known, "metadata": {**known["metadata"], **changes}}
        if document["metadata"].get("deletionTimestamp") and not document["metadata"].get("finalizers"):
            return self._remove(key, document)
        return self._store(key, document, "MODIFIED")

    def _remove(self, key: tuple[Kind, str, str], document: Json) -> Json:
        del self.objects[key]
        self._version += 1
        gone = {**document, "metadata": {**document["metadata"], "resourceVersion": str(self._version)}}
        self.events.append((key[0], "DELETED", gone))
        return {"kind": "Status", "metadata": {}}

    def _store(self, key: tuple[Kind, str, str], document: Json, type_: str) -> Json:
        self._version += 1
        metadata = {**document["metadata"], "resourceVersion": str(self._version)}
        stored = {**document, "kind": key[0].value, "metadata": metadata}
        self.objects[key] = stored
        self.events.append((key[0], type_, stored))
        return stored

    def _found(self, kind: Kind, namespace: str, name: str) -> Json:
        document = self.objects.get((kind, namespace, name))
        if document is None:
            raise NotFound(404, "NotFound", f"{kind} {name} is not there")
        return document

    @staticmethod
    def _check(known: Json, version: str) -> None:
        if known["metadata"]["resourceVersion"] != version:
            raise Conflict(409, "Conflict", f"{known['metadata']['resourceVersion']} is newer than {version}")
