"""What may go out together, and what cannot go out at all."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from orderplane.workers.batch import refusal, rounds

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


def test_what_cannot_be_sent():
    assert refusal({"type": "order.created", "data": "{}"}, 10) is None
    assert refusal({"type": "order.unheard", "data": "{}"}, 10) == "unknown_type"
    assert refusal({"type": "order.created", "data": '"ééé"'}, 7) == "too_large"
    assert refusal({"type": "order.created", "data": '"ééé"'}, 8) is None
