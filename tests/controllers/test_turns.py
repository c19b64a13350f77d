"""Whose turn it is: no namespace waits for another one's objects."""

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.controllers.engine.turns import LOW_PRIORITY, Key, Turns


def turns_of(*keys: tuple[str, int]) -> Turns:
    """`("a/1", -1)` is the key ("a", "1") with priority -1."""
    turns = Turns()
    for key, priority in keys:
        namespace, name = key.split("/")
        turns.add((namespace, name), priority)
    return turns


@pytest.mark.parametrize(
    ("added", "taken"),
    [
        # One namespace: the lowest priority, then the oldest.
        ([("a/1", 0), ("a/2", -1), ("a/3", 0)], ["a/2", "a/1", "a/3"]),
        # A key waits once; the lower priority counts.
        ([("a/1", 0), ("a/2", 0), ("a/2", -1), ("a/1", 5)], ["a/2", "a/1"]),
        # Namespaces go round, whatever the priorities of their keys.
        ([("a/1", -3), ("a/2", -3), ("a/3", -3), ("b/1", 0)], ["a/1", "b/1", "a/2", "a/3"]),
        (
            [("a/1", 0), ("a/2", 0), ("b/1", 0), ("b/2", -1), ("c/1", 0)],
            ["a/1", "b/2", "c/1", "a/2", "b/1"],
        ),
        # What is not urgent goes behind what is urgent in any namespace.
        ([("a/1", LOW_PRIORITY), ("b/1", 0), ("b/2", 0)], ["b/1", "b/2", "a/1"]),
        ([("a/1", LOW_PRIORITY), ("a/2", LOW_PRIORITY), ("a/1", 0), ("b/1", 0)], ["a/1", "b/1", "a/2"]),
    ],
)
def test_the_order_of_keys_that_are_done_at_once(added: list[tuple[str, int]], taken: list[str]) -> None:
    turns = turns_of(*added)
    found = []
    while (key := turns.take()) is not None:
        found.append("/".join(key))
        turns.done(key)
    assert found == taken
    assert len(turns) == 0


def test_a_thousand_keys_of_one_do_not_delay_the_one_key_of_another() -> None:
    """All workers have slow keys of the one in hand: the next that is free takes the other's."""
    turns = turns_of(*((f"busy/{number}", -3) for number in range(1_000)))
    in_hand = [turns.take() for _ in range(16)]
    turns.add(("quiet", "1"), 0)
    assert in_hand[0] is not None
    turns.done(in_hand[0])
    assert turns.take() == ("quiet", "1")


def test_who_has_fewer_in_hand_goes_first_until_both_have_as_many() -> None:
    turns = turns_of(*((f"{namespace}/{number}", 0) for number in range(99) for namespace in "ab"))
    slow = [turns.take() for _ in range(16)]
    assert Counter(key[0] for key in slow if key) == {"a": 8, "b": 8}
    for key in slow:
        # All of b's are done at once, none of a's.
        if key and key[0] == "b":
            turns.done(key)
    assert [key[0] for key in (turns.take() for _ in range(9)) if key] == ["b"] * 8 + ["a"]


Step = tuple[str, str, str, int]
steps = st.tuples(
    st.sampled_from(["add", "add", "take", "done"]),
    st.sampled_from("abc"),
    st.sampled_from("123"),
    st.sampled_from([-1, 0, 0, LOW_PRIORITY]),
)


@given(st.lists(steps, max_size=60))
def test_every_key_is_handed_out_once_and_nothing_is_kept(script: list[Step]) -> None:
    turns = Turns()
    waiting: dict[Key, int] = {}
    in_hand: list[Key] = []
    for what, namespace, name, priority in script:
        if what == "add":
            key = namespace, name
            turns.add(key, priority)
            waiting[key] = min(priority, waiting.get(key, priority))
        elif what == "take":
            key_or_none = turns.take()
            assert (key_or_none is None) == (not waiting)
            if key_or_none is not None:
                urgent = [key for key, rank in waiting.items() if rank < LOW_PRIORITY]
                assert key_or_none in (urgent or waiting)
                of_namespace = [rank for key, rank in waiting.items() if key[0] == key_or_none[0]]
                assert waiting.pop(key_or_none) == min(of_namespace)
                in_hand.append(key_or_none)
        elif in_hand:
            turns.done(in_hand.pop(0))
        assert len(turns) == len(waiting)
        assert all(key in turns for key in waiting)
    while (key_or_none := turns.take()) is not None:
        in_hand.append(key_or_none)
    for key in in_hand:
        turns.done(key)
    # Namespaces come and go; none of them leaves anything behind.
    state = {name: getattr(turns, name) for name in vars(turns) if name != "_count"}
    assert state == {"_priority": {}, "_waiting": ({}, {}), "_lines": ({}, {}), "_in_hand": {}}


@pytest.mark.parametrize("namespaces", [1, 2_000])
def test_a_step_costs_little_however_many_namespaces_wait(namespaces: int) -> None:
    turns = turns_of(*((f"ns-{number % namespaces}/{number}", 0) for number in range(10_000)))
    started = time.process_time()
    while (key := turns.take()) is not None:
        turns.done(key)
    assert (time.process_time() - started) / 10_000 < 100e-6
