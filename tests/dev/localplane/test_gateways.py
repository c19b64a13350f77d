"""Replicas of the gateway: their names, and the process that each is."""

import pytest

from orderplane.dev.localplane.components import MODULES, gateways, kind_of


@pytest.mark.parametrize(
    ("count", "names"),
    [(1, ("gateway",)), (3, ("gateway", "gateway-2", "gateway-3"))],
)
def test_each_has_a_name_and_is_the_same_process(count: int, names: tuple[str, ...]) -> None:
    assert gateways(count) == names
    assert {kind_of(name) for name in names} == {"gateway"}


def test_no_other_process_is_taken_for_one() -> None:
    assert [kind_of(name) for name in MODULES] == list(MODULES)
