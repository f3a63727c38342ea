"""Times of the API are read and written in UTC, in whole seconds."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from initpipeline.api.models import format_micro_time, format_time
from initpipeline.api.times import EARLIEST, LATEST, parse_time

NOON = datetime(2026, 1, 2, 12, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "text"),
    [
        pytest.param(NOON, "2026-01-02T12:00:05Z", id="utc"),
        pytest.param(NOON.replace(microsecond=999999), "2026-01-02T12:00:05Z", id="fraction"),
        pytest.param(
            NOON.astimezone(timezone(timedelta(hours=-2))), "2026-01-02T12:00:05Z", id="offset"
        ),
        pytest.param(EARLIEST, "1000-01-01T00:00:00Z", id="earliest"),
        pytest.param(LATEST, "9000-01-01T00:00:00Z", id="latest"),
    ],
)
def test_time_is_written_in_utc_and_whole_seconds(time: datetime, text: str) -> None:
    assert format_time(time) == text


def test_micro_time_has_six_digits_after_the_second() -> None:
    assert format_micro_time(NOON) == "2026-01-02T12:00:05.000000Z"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        pytest.param("2026-01-02T12:00:05Z", NOON, id="utc"),
        pytest.param("2026-01-02T13:00:05+01:00", NOON, id="offset"),
        pytest.param("2026-01-02T12:00:05", NOON, id="no offset"),
        pytest.param("0999-12-31T23:59:59Z", EARLIEST, id="too early"),
        pytest.param("9999-12-31T23:59:59Z", LATEST, id="too late"),
        pytest.param("10000-01-02T03:04:05Z", LATEST, id="year of five digits"),
        pytest.param("0000-01-01T00:00:00Z", EARLIEST, id="year 0"),
        pytest.param("soon", None, id="no time"),
        pytest.param("", None, id="empty"),
        pytest.param(7, None, id="number"),
    ],
)
def test_time_is_read_as_utc_within_the_calendar(text: object, time: datetime | None) -> None:
    read = parse_time(text)
    assert read == time
    assert read is None or read.tzinfo is UTC
