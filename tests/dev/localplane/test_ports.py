"""Ports are given to one asker each, and only free ones."""

import itertools
import socket

import pytest

from orderplane.dev.localplane import ports


@pytest.fixture(autouse=True)
def _begin_at_the_beginning(monkeypatch):
    monkeypatch.setattr(ports, "_RANGE", range(15_000, 15_040))
    monkeypatch.setattr(ports, "_candidates", itertools.cycle(range(15_000, 15_040)))


def test_nobody_gets_what_another_was_given():
    given = [ports.free_port() for _ in range(5)]
    assert len(set(given)) == 5
    assert all(15_000 <= port < 15_040 for port in given)


def test_a_port_that_is_listened_on_is_passed_over():
    taken = ports.free_port()
    with socket.create_server(("127.0.0.1", taken)):
        assert taken not in [ports.free_port() for _ in range(39)]


def test_it_says_so_when_there_is_none(monkeypatch):
    taken = ports.free_port()
    monkeypatch.setattr(ports, "_RANGE", range(taken, taken + 1))
    monkeypatch.setattr(ports, "_candidates", itertools.repeat(taken))
    with socket.create_server(("127.0.0.1", taken)), pytest.raises(OSError, match="no free port"):
        ports.free_port()
