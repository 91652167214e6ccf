"""A schedule is due when cron's five fields say so, and knows its own pauses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mahavishnu.ground.cron import Schedule

START = datetime(2027, 12, 30, 23, 58, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "then", "shortest", "longest"),
    [
        ("0 2 * * *", "2027-12-31 02:00", "1d", "1d"),
        ("*/15 * * * *", "2027-12-31 00:00", "15m", "15m"),
        ("5/20 1-2 * * *", "2027-12-31 01:05", "20m", "22h20m"),
        ("0 0 29 2 *", "2028-02-29 00:00", "1461d", "1461d"),
        ("0 3 * * sun", "2028-01-02 03:00", "1w", "1w"),
        ("0 3 * * 7", "2028-01-02 03:00", "1w", "1w"),
        ("0 0 31 * *", "2027-12-31 00:00", "31d", "61d"),
        ("0 12 * jan-feb 1-5", "2028-01-03 12:00", "1d", "311d"),
        ("30 4 1,15 * fri", "2027-12-31 04:30", "1d", "1w"),  # either of the two days
        ("0 2 * * */2", "2028-01-01 02:00", "1d", "2d"),  # not on Mondays, Wednesdays and Fridays
        ("0 2 * * 5/2", "2027-12-31 02:00", "1w", "1w"),  # a step ends with the week: Friday, and not Sunday
        ("0 2 */2 * */1", "2027-12-31 02:00", "1d", "2d"),
        ("0 2 */10 * mon", "2027-12-31 02:00", "1d", "1w"),  # a step restricts, as it does in Kubernetes
    ],
)
def test_the_next_moment_and_the_pauses(text: str, then: str, shortest: str, longest: str) -> None:
    """By the calendar, in UTC."""
    one = Schedule.parse(text)
    assert f"{one.after(START):%Y-%m-%d %H:%M}" == then
    assert [str(gap) for gap in one.gaps()] == [shortest, longest]
    assert str(one) == text


@pytest.mark.parametrize(
    "text",
    ["", "daily", "* * * *", "* * * * * *", "60 * * * *", "0 24 * * *", "0 0 0 * *", "0 0 * 13 *", "0 0 * * 8",
     "0 0 30 2 *", "0 5-2 * * *", "*/0 * * * *", "x * * * *", "0 0 * mon *", "-1 * * * *", "1.5 * * * *", "@daily"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(text: str) -> None:
    """With the field that is wrong, and never by silence."""
    with pytest.raises(ValueError, match=r"\w"):
        Schedule.parse(text)


def fires(text: str, moment: datetime) -> bool:
    """An independent reading: field by field, of one moment."""
    minute, hour, day, month, weekday = text.split()

    def has(field: str, value: int, least: int, most: int) -> bool:
        for part in field.split(","):
            base, _, step = part.partition("/")
            low, _, high = base.partition("-")
            first = least if base == "*" else int(low)
            last = most if base == "*" or (step and not high) else int(high or low)
            if first <= value <= last and (value - first) % int(step or 1) == 0:
                return True
        return False

    dom, dow = has(day, moment.day, 1, 31), has(weekday, moment.isoweekday() % 7, 0, 6)
    on = dom and dow if "*" in (day, weekday) else dom or dow
    return (
        has(minute, moment.minute, 0, 59)
        and has(hour, moment.hour, 0, 23)
        and has(month, moment.month, 1, 12)
        and on
    )


FIELDS = [(0, 59), (0, 23), (1, 28), (1, 12), (0, 6)]


MOMENTS = st.integers(946684800, 3786912000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Five random fields."""
    parts: list[str] = []
    for least, most in FIELDS:
        one = st.integers(least, most)
        kinds = [st.just("*"), one.map(str), st.tuples(one, one).map(lambda two: f"{min(two)}-{max(two)}")]
        kinds += [st.integers(2, 9).map(lambda n: f"*/{n}")]
        parts.append(draw(st.one_of(*kinds)))
    return " ".join(parts)


@settings(max_examples=50)
@given(texts(), MOMENTS)
def test_it_is_due_where_an_independent_reading_says_so(text: str, moment: datetime) -> None:
    """At the moment that is next, and, within two hours, at none before it."""
    then = Schedule.parse(text).after(moment)
    assert fires(text, then)
    start = moment.replace(second=0, microsecond=0)
    before = [start + timedelta(minutes=minute) for minute in range(1, 120)]
    assert not [one for one in before if one < then and fires(text, one)]


@pytest.mark.proof
def test_the_pauses_of_a_short_look_are_those_of_28_years(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every kind of restriction, alone and together."""
    days, months = ("*", "1", "29", "30", "31", "1,15", "*/2", "1-31"), ("*", "2", "jan-feb", "1-12", "*/2")
    every = [
        f"0 3 {day} {month} {week}" for day in days for month in months for week in ("*", "sun", "1-5", "*/3")
    ]
    possible = [one for one in every if "30 2" not in one and "31 2" not in one]
    short = [Schedule.parse(one).gaps() for one in possible]
    Schedule.gaps.cache_clear()
    monkeypatch.setattr(Schedule, "_period", Mock(return_value=28 * 366))
    assert [Schedule.parse(one).gaps() for one in possible] == short
