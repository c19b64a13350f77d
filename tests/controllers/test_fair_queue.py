"""Whose turn it is: no namespace waits for another one's objects."""

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orderplane.controllers.engine.fair_queue import LOW_PRIORITY, FairQueue, Key


def queue_of(*keys: tuple[str, int]) -> FairQueue:
    """`("a/1", -1)` is the key ("a", "1") with priority -1."""
    queue = FairQueue()
    for key, priority in keys:
        namespace, name = key.split("/")
        queue.add((namespace, name), priority)
    return queue


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
    queue = queue_of(*added)
    found = []
    while (key := queue.take()) is not None:
        found.append("/".join(key))
        queue.done(key)
    assert found == taken
    assert len(queue) == 0


def test_a_thousand_keys_of_one_do_not_delay_the_one_key_of_another() -> None:
    """All workers have slow keys of the one in hand: the next that is free takes the other's."""
    queue = queue_of(*((f"busy/{number}", -3) for number in range(1_000)))
    in_hand = [queue.take() for _ in range(16)]
    queue.add(("quiet", "1"), 0)
    assert in_hand[0] is not None
    queue.done(in_hand[0])
    assert queue.take() == ("quiet", "1")


def test_who_has_fewer_in_hand_goes_first_until_both_have_as_many() -> None:
    queue = queue_of(*((f"{namespace}/{number}", 0) for number in range(99) for namespace in "ab"))
    slow = [queue.take() for _ in range(16)]
    assert Counter(key[0] for key in slow if key) == {"a": 8, "b": 8}
    for key in slow:
        # All of b's are done at once, none of a's.
        if key and key[0] == "b":
            queue.done(key)
    assert [key[0] for key in (queue.take() for _ in range(9)) if key] == ["b"] * 8 + ["a"]


Step = tuple[str, str, str, int]
steps = st.tuples(
    st.sampled_from(["add", "add", "take", "done"]),
    st.sampled_from("abc"),
    st.sampled_from("123"),
    st.sampled_from([-1, 0, 0, LOW_PRIORITY]),
)


@given(st.lists(steps, max_size=60))
def test_every_key_is_handed_out_once_and_nothing_is_kept(script: list[Step]) -> None:
    queue = FairQueue()
    waiting: dict[Key, int] = {}
    in_hand: list[Key] = []
    for what, namespace, name, priority in script:
        if what == "add":
            key = namespace, name
            queue.add(key, priority)
            waiting[key] = min(priority, waiting.get(key, priority))
        elif what == "take":
            key_or_none = queue.take()
            assert (key_or_none is None) == (not waiting)
            if key_or_none is not None:
                urgent = [key for key, rank in waiting.items() if rank < LOW_PRIORITY]
                assert key_or_none in (urgent or waiting)
                of_namespace = [rank for key, rank in waiting.items() if key[0] == key_or_none[0]]
                assert waiting.pop(key_or_none) == min(of_namespace)
                in_hand.append(key_or_none)
        elif in_hand:
            queue.done(in_hand.pop(0))
        assert len(queue) == len(waiting)
        assert all(key in queue for key in waiting)
    while (key_or_none := queue.take()) is not None:
        in_hand.append(key_or_none)
    for key in in_hand:
        queue.done(key)
    # Namespaces come and go; none of them leaves anything behind.
    state = {name: getattr(queue, name) for name in vars(queue) if name != "_count"}
    assert state == {"_priority": {}, "_waiting": ({}, {}), "_lines": ({}, {}), "_in_hand": {}}


def test_what_a_lower_priority_has_replaced_is_not_kept_for_ever() -> None:
    """A namespace that always has something urgent to do never comes to the old entries."""
    queue = queue_of(("a/first", -3))
    for number in range(10_000):
        queue.add(("a", "often"), 0)
        queue.add(("a", "often"), -2)
        queue.add(("a", str(number)), -3)
        key = queue.take()
        assert key is not None
        queue.done(key)
        while len(queue) > 3:
            key = queue.take()
            assert key is not None
            queue.done(key)
    (waiting,) = queue._waiting[0].values()
    assert len(waiting) <= 2 * len(queue) + 100


@pytest.mark.parametrize("namespaces", [1, 2_000])
def test_a_step_costs_little_however_many_namespaces_wait(namespaces: int) -> None:
    queue = queue_of(*((f"ns-{number % namespaces}/{number}", 0) for number in range(10_000)))
    started = time.process_time()
    while (key := queue.take()) is not None:
        queue.done(key)
    assert (time.process_time() - started) / 10_000 < 100e-6
