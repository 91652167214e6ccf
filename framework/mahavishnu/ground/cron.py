"""When a schedule is due: the five fields of cron, in UTC, as sets of minutes and days."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

from mahavishnu.units import MINUTE, Duration, Quantity

_DAY = 24 * 60
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _DAYS),
)
_PART = re.compile(r"(\*|[a-z0-9]+(?:-[a-z0-9]+)?)(?:/([0-9]{1,3}))?")
# A 29 February comes at the latest after four years, a weekday on it after 28 (2100 is no leap year).
_HORIZON = 28 * 366
_TWO_LEAPS, _TWO_WEEKS = 8 * 366, 15
_EVERY_DAY, _EVERY_MONTH = frozenset(range(1, 32)), frozenset(range(1, 13))


@dataclass(frozen=True, slots=True)
class Schedule(Quantity):
    """Moments at which something is done, written as cron's five fields in UTC: `0 2 * * *`.

    As in POSIX, where both the day of the month and the day of the week are restricted, either will do; as in
    Kubernetes, a step restricts.
    """

    text: str
    minutes: tuple[int, ...] = field(compare=False)
    """Minutes of the day, in order."""
    months: frozenset[int] = field(compare=False)
    days: frozenset[int] = field(compare=False)
    weekdays: frozenset[int] = field(compare=False)

    form: ClassVar[str] = "a schedule: cron's five fields, in UTC"
    pattern: ClassVar[str] = r"\S+( \S+){4}"
    examples: ClassVar[tuple[str, ...]] = ("0 2 * * *", "30 */6 * * *")

    @classmethod
    def parse(cls, text: str) -> Schedule:
        parts = text.lower().split(" ")
        if len(parts) != len(_FIELDS):
            raise cls._refusal(text)
        sets = [_values(part, *one) for part, one in zip(parts, _FIELDS, strict=True)]
        minutes = tuple(60 * hour + minute for hour in sorted(sets[1]) for minute in sorted(sets[0]))
        weekdays = frozenset(day % 7 for day in sets[4])
        # What every day fulfils is no restriction: then only the other one of the two fields counts.
        any_day, any_weekday = (parts[place] in ("*", "*/1") for place in (2, 4))
        days = sets[2] if not any_day or any_weekday else frozenset[int]()
        weekdays = weekdays if not any_weekday else frozenset[int]()
        made = cls(text, minutes, sets[3], days, weekdays)
        if next(made._dates(date(2024, 1, 1)), None) is None:
            raise ValueError(f"`{text}` is never: no month has such a day")
        return made

    @property
    def sunday_is_0(self) -> str:
        """The text for who knows no other number for Sunday, as Kubernetes."""
        *others, weekday = self.text.split(" ")
        listed = ",".join(map(str, sorted(self.weekdays)))
        return " ".join((*others, listed if "7" in weekday else weekday))

    def after(self, moment: datetime) -> datetime:
        """The first moment later than this one."""
        moment = moment.astimezone(UTC)
        for day in self._dates(moment.date()):
            for minute in self.minutes:
                due = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)
                if due > moment:
                    return due
        raise AssertionError("a schedule that is never due is not parsed")

    @lru_cache(maxsize=64)  # noqa: B019 - a handful of small values that are equal by their text
    def gaps(self) -> tuple[Duration, Duration]:
        """The shortest and the longest time between two moments."""
        inside = [two - one for one, two in pairwise(self.minutes)]
        across = _DAY - self.minutes[-1] + self.minutes[0]
        days = list(self._dates(date(2001, 1, 1), self._period()))
        between = {across + _DAY * ((two - one).days - 1) for one, two in pairwise(days)}
        lengths = [*inside, *between]
        return Duration(min(lengths) * MINUTE), Duration(max(lengths) * MINUTE)

    def shifted(self, minutes: int) -> str:
        """A daily time of day so many minutes after its first one: `MINUTE HOUR`."""
        hour, minute = divmod((self.minutes[0] + minutes) % _DAY, 60)
        return f"{minute} {hour}"

    def _period(self) -> int:
        """So many days show every pause."""
        if self.months == _EVERY_MONTH and (self.days >= _EVERY_DAY or not self.days):
            return _TWO_WEEKS
        return _HORIZON if self.weekdays else _TWO_LEAPS

    def _dates(self, start: date, within: int = _HORIZON) -> Iterator[date]:
        for number in range(within):
            day = start + timedelta(days=number)
            if day.month in self.months and (day.day in self.days or day.isoweekday() % 7 in self.weekdays):
                yield day

    def __str__(self) -> str:
        return self.text


def _values(text: str, what: str, least: int, most: int, names: tuple[str, ...]) -> frozenset[int]:
    """The numbers that one field stands for; raises ValueError with the field's name."""
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"`{part}` is no {what}")
        first, last = _range(match[1], what, (least, most), names, stepped=match[2] is not None)
        step = int(match[2] or 1)
        if step < 1:
            raise ValueError(f"`{part}`: a {what} is not counted in steps of nothing")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _range(
    text: str, what: str, bounds: tuple[int, int], names: tuple[str, ...], *, stepped: bool
) -> tuple[int, int]:
    if text == "*":
        return bounds
    ends = [_number(end, what, bounds, names) for end in text.split("-")]
    first, last = ends[0], bounds[1] if len(ends) == 1 and stepped else ends[-1]
    if first > last:
        raise ValueError(f"`{text}`: a range of {what} goes from the smaller to the larger")
    return first, last


def _number(text: str, what: str, bounds: tuple[int, int], names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + (1 if len(names) == len(_MONTHS) else 0)
    most = bounds[1] + (names is _DAYS)  # Sunday is 7, too
    if text.isdecimal() and bounds[0] <= int(text) <= most:
        return int(text)
    raise ValueError(f"`{text}` is no {what}: {bounds[0]} to {most}")
