"""When an installation counts as drained, and what the command says of it."""

import json
from collections.abc import Sequence

import pytest

from orderplane.adapters.kubernetes.client import ApiClient
from orderplane.cli.documents import Drain
from orderplane.cli.drain import QUIET_SECONDS, OpenOrder, as_document, summary, wait_until_at_rest
from orderplane.crds.meta import Kind
from orderplane.dev.localplane.plane import Plane

from ..crds.conftest import order_body
from .terminal import orderplane

TEA = OpenOrder("demo", "tea", "Open")


class Looks:
    """What each look finds; the last one again and again. A look takes no time, a pause the time it says."""

    def __init__(self, found: Sequence[list[OpenOrder]]) -> None:
        self._found = list(found)
        self.now = 100.0
        self.count = 0

    async def read(self) -> list[OpenOrder]:
        self.count += 1
        return self._found.pop(0) if len(self._found) > 1 else self._found[0]

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def result(self, within: float | None) -> list[OpenOrder]:
        return await wait_until_at_rest(self.read, within, monotonic=lambda: self.now, sleep=self.sleep)


@pytest.mark.parametrize(
    ("found", "least_seconds"),
    [
        ([[]], QUIET_SECONDS),
        ([[TEA], []], QUIET_SECONDS + 1),
        # An order that came in before the API server refused new ones.
        ([[], [], [TEA], []], QUIET_SECONDS + 3),
    ],
)
async def test_it_is_drained_when_nothing_was_open_for_a_while(
    found: list[list[OpenOrder]], least_seconds: float
) -> None:
    looks = Looks(found)
    assert await looks.result(None) == []
    assert looks.now - 100 >= least_seconds - 1


@pytest.mark.parametrize(("within", "count"), [(0.0, 1), (3.0, 4)])
async def test_at_the_timeout_it_tells_what_is_open(within: float, count: int) -> None:
    looks = Looks([[TEA]])
    assert await looks.result(within) == [TEA]
    assert looks.count == count


def test_people_are_told_some_and_programs_all() -> None:
    many = [OpenOrder("demo", f"o-{number}", "Compensating") for number in range(12)]
    assert summary(many).startswith("12 orders are open: demo/o-0 (Compensating), ")
    assert summary(many).endswith(" and 2 more.")
    assert len(as_document(many, new_orders=False).open) == 12
    assert as_document([], new_orders=None) == Drain(drained=True, open=(), new_orders=None)
    assert "sealed" in summary([])


async def test_it_either_looks_or_opens_the_door_again() -> None:
    answer = await orderplane("drain", "--look", "--undo")
    assert (answer.code, answer.err) == (2, "Give --look or --undo, not both.\n")


@pytest.mark.integration
async def test_an_order_without_a_gate_is_open_too(plane: Plane, namespace: str) -> None:
    """No operator runs here that would open its gate."""
    kubeconfig = str(plane.kubeconfig("gateway"))
    async with await ApiClient.connect(user_agent="tests", kubeconfig=kubeconfig) as gateway:
        made = await gateway.create(Kind.ORDER, namespace, order_body(namespace))
    answer = await orderplane("drain", "--look", "--json", env=plane.env("admin"))
    assert answer.code == 1, answer.err
    found = json.loads(answer.out)
    assert found["drained"] is False
    assert {"namespace": namespace, "name": made["metadata"]["name"], "state": "Pending"} in found["open"]
