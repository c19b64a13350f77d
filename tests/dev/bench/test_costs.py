"""What one request costs: what was used, without what is used at rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.dev.bench.costs import Cost, Costs, cost, explained
from orderplane.dev.bench.load import KINDS

from .records import usage

REST = usage(10.0, gateway=0.1, gateway_2=0.1, etcd=0.5)


def test_rest_is_taken_off_and_replicas_are_added_up() -> None:
    used = usage(20.0, gateway=1.4, gateway_2=1.0, etcd=0.9, k6=4.0)
    found = cost(used, REST, count=1000, failed=0.0)
    assert found.cpu_ms == pytest.approx({"gateway": 2.0, "etcd": 0.0, "k6": 4.0})
    assert found.all_ms == pytest.approx(2.0)


def test_nothing_was_sent() -> None:
    assert cost(usage(gateway=1.0), REST, count=0, failed=1.0).cpu_ms == {}


@given(
    each_ms=st.dictionaries(st.sampled_from(KINDS), st.floats(0.1, 10), min_size=len(KINDS)),
    counts=st.dictionaries(st.sampled_from(KINDS), st.integers(1, 10_000), min_size=len(KINDS)),
    seconds=st.floats(10, 600),
)
def test_kinds_and_rest_explain_a_mixture_that_is_their_sum(
    each_ms: dict[str, float], counts: dict[str, int], seconds: float
) -> None:
    requests = {kind: Cost(count=1, failed=0.0, cpu_ms={"gateway": ms}) for kind, ms in each_ms.items()}
    costs = Costs(rest=REST, requests=requests, order=requests["place"])
    spent = sum(counts[kind] * each_ms[kind] for kind in KINDS) / 1000 + 0.02 * seconds
    assert explained(costs, counts, usage(seconds, gateway=spent)) == pytest.approx(1.0)
    assert explained(costs, counts, usage(seconds, gateway=spent, gateway_2=spent)) == pytest.approx(0.5)
