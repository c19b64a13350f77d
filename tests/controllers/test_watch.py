"""When a watch that was opened anew asks for a list of everything."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from orderplane.crds.meta import Kind
from orderplane.operator.resync import Resync
from orderplane.operator.watch import Watch

from .builders import an_order


class Cluster:
    """Keeps nothing."""

    def on_watch_event(self, kind: Kind, document: dict[str, Any]) -> None: ...


class Requests:
    """A resync that was done once, and counts who wants another."""

    is_synced = True

    def __init__(self) -> None:
        self.count = 0

    def request(self) -> None:
        self.count += 1


def a_watch() -> tuple[Watch, Requests]:
    resync = Requests()
    operator: Any = SimpleNamespace(cluster=Cluster())
    return Watch(operator, cast("Resync", resync)), resync


def an_event(name: str) -> dict[str, Any]:
    return an_order().model_dump(mode="json", by_alias=True) | {
        "metadata": {"namespace": "shop", "name": name, "uid": name, "resourceVersion": "7"}
    }


@pytest.mark.parametrize(
    ("events", "wanted"),
    [
        # The first watch begins with what the first resync has just listed.
        ([(None, "tea"), (None, "mug"), ("ADDED", "cup"), ("MODIFIED", "tea")], False),
        ([(None, "tea"), (None, "tea")], True),
        ([(None, "tea"), (None, "mug"), ("ADDED", "cup"), (None, "cup"), (None, "mug")], True),
        ([(None, "tea"), (None, "tea"), (None, "new")], True),
    ],
)
def test_only_a_watch_that_is_opened_again_wants_a_list(
    events: list[tuple[str | None, str]], wanted: bool
) -> None:
    watch, resync = a_watch()
    for type_, name in events:
        watch.on_watch_event(Kind.ORDER, type_, an_event(name))
    assert (resync.count > 0) is wanted


def test_each_kind_has_a_watch_of_its_own() -> None:
    watch, resync = a_watch()
    for kind in Kind:
        watch.on_watch_event(kind, None, an_event("tea"))
    assert resync.count == 0
