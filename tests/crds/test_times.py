"""The one form of a time that a client sets."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orderplane.crds.times import EARLIEST, LATEST, TIME_PATTERN, StoredTime, Time

NEW, STORED = TypeAdapter(Time), TypeAdapter(StoredTime)
CENTURY = st.integers(0, int((LATEST - EARLIEST).total_seconds())).map(
    lambda seconds: EARLIEST + timedelta(seconds=seconds)
)
LIKE_A_TIME = st.from_regex(r"\A(19|20|21)[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]Z\Z")


@given(CENTURY)
@example(datetime(2024, 2, 29, tzinfo=UTC))
@example(datetime(2000, 2, 29, tzinfo=UTC))
def test_every_second_of_the_century_has_the_form(time: datetime) -> None:
    assert NEW.validate_json(f'"{time:%Y-%m-%dT%H:%M:%SZ}"', strict=True) == time


@given(LIKE_A_TIME)
@example("2023-02-29T00:00:00Z")
@example("2100-02-28T00:00:00Z")
@example("2026-04-31T00:00:00Z")
def test_the_pattern_takes_exactly_the_times_that_exist(text: str) -> None:
    try:
        is_time = EARLIEST <= datetime.fromisoformat(text) <= LATEST
    except ValueError:
        is_time = False
    assert (re.fullmatch(TIME_PATTERN, text) is not None) == is_time


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2030-01-01t00:00:00z", datetime(2030, 1, 1, tzinfo=UTC)),
        ("2030-01-01t00:00:00Z", datetime(2030, 1, 1, tzinfo=UTC)),
        ("2030-01-01T00:00:00z", datetime(2030, 1, 1, tzinfo=UTC)),
        ("2030-01-01T00:00:00+05:30", datetime(2029, 12, 31, 18, 30, tzinfo=UTC)),
        ("2030-01-01T00:00:00.250Z", datetime(2030, 1, 1, tzinfo=UTC) + timedelta(milliseconds=250)),
        ("9999-12-31T23:59:59-23:59", LATEST),
        ("9999-12-31T23:59:59Z", LATEST),
        ("0001-01-01T00:00:00+23:59", EARLIEST),
        ("0000-01-01T00:00:00Z", EARLIEST),
        ("2030-06-30T23:59:60Z", EARLIEST),
        ("what", EARLIEST),
    ],
)
def test_what_was_stored_before_is_refused_now_but_can_be_read(text: str, read: datetime) -> None:
    with pytest.raises(ValidationError, match="2030-01-31T12:00:00Z"):
        NEW.validate_python(text)
    assert STORED.validate_python(text) == read
