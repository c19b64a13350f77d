"""What may go out together, and what cannot go out at all."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.workers.relay.batch import rounds, sendable

rows = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12)), unique=True, max_size=40).map(
    lambda pairs: [{"subject": UUID(int=subject), "seq": seq} for subject, seq in pairs]
)


@given(rows)
def test_rounds_keep_every_row_and_the_order_of_each_subject(batch):
    result = rounds(batch)
    flat = [row for each in result for row in each]
    assert sorted(map(id, flat)) == sorted(map(id, batch))
    assert all(result)
    for each in result:
        subjects = [row["subject"] for row in each]
        assert len(set(subjects)) == len(subjects)
    for subject in {row["subject"] for row in batch}:
        numbers = [row["seq"] for row in flat if row["subject"] == subject]
        assert numbers == sorted(numbers)


@given(rows)
def test_no_more_rounds_than_the_longest_subject_needs(batch):
    longest = max((sum(row["subject"] == each["subject"] for row in batch) for each in batch), default=0)
    assert len(rounds(batch)) == longest


def a_row(seq, *, subject=1, type_="order.created", data="{}"):
    return {"subject": UUID(int=subject), "seq": seq, "type": type_, "data": data}


def test_what_cannot_go_out_cuts_only_its_own_subject_short():
    first, unheard, third = a_row(1), a_row(2, type_="order.unheard"), a_row(3)
    other = a_row(1, subject=2)
    fit, refused = sendable([third, unheard, first, other], 100)
    assert first in fit
    assert other in fit
    assert len(fit) == 2
    assert refused == [(unheard, "unknown_type")]


@pytest.mark.parametrize(("largest", "is_refused"), [(7, True), (8, False)])
def test_size_is_counted_in_bytes(largest, is_refused):
    row = a_row(1, data='"ééé"')
    assert sendable([row], largest) == (([], [(row, "too_large")]) if is_refused else ([row], []))
