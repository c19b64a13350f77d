"""Trouble on demand is bounded, seeded and checked."""

import pytest

from orderplane.dev.sandbox.faults import Mode, read_faults


def test_a_share_fails_and_the_same_seed_fails_the_same():
    plans = [read_faults({"mode": "hang", "seconds": 10, "share": 0.3, "seed": 5}, 0.0) for _ in range(2)]
    first, second = ([plan.draw(1.0) for _ in range(1000)] for plan in plans)
    assert first == second
    assert 230 < first.count(Mode.HANG) < 370


def test_it_ends_by_itself():
    plan = read_faults({"mode": "error500", "seconds": 10}, 100.0)
    assert plan.draw(109.9) is Mode.ERROR_500
    assert plan.draw(110.0) is Mode.OK
    assert plan.describe(104.0)["seconds"] == 6.0
    assert plan.describe(110.0)["mode"] is Mode.OK


@pytest.mark.parametrize(
    "document",
    [
        [], "hang", {"mode": "explode"}, {"mode": "hang", "share": 2}, {"mode": "hang", "share": None},
        {"mode": "hang", "seconds": 0}, {"mode": "hang", "seconds": 1e9}, {"mode": "hang", "seconds": "soon"},
    ],
)  # fmt: skip
def test_nonsense_is_refused(document):
    with pytest.raises(ValueError):
        read_faults(document, 0.0)
