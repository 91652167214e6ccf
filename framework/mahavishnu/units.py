"""Quantities with mandatory units, text to exact number and back: `2s`, `99.9%`, `300/minute`, `512Mi`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

SECOND = 10**9
"""Of nanoseconds, in which all times are counted."""
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_DURATIONS = {"ms": 10**6, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_SPELLINGS = {
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("d", "day", "days"), "d"),
    **dict.fromkeys(("w", "week", "weeks"), "w"),
}
"""How people write the units of time elsewhere."""
_LOOSELY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)[ ]?([a-z]{1,12})(?:,? |$|(?=[0-9]))")
_PERIODS = {
    "second": "s", "seconds": "s", "minute": "m", "minutes": "m", "hour": "h", "hours": "h",
    "day": "d", "days": "d", "s": "s", "m": "m", "h": "h", "d": "d",
}  # fmt: skip
_PERIOD_NAMES = {"1s": "second", "1m": "minute", "1h": "hour", "1d": "day"}
_SIZES = {
    "B": 1,
    "kB": 10**3, "MB": 10**6, "GB": 10**9,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip
# A ceiling on every number: beyond it no real service lives, and arithmetic stays inside 63 bits.
_LARGEST = 2**62
PARTS = 10**8
"""In so many parts every percentage is a whole number, for it has at most six decimals: comparisons are exact."""
_OFTEN_MS = 100
"""From here on a bare number may well be meant in milliseconds, as other tools read it."""


def seconds(ns: int) -> int:
    """Nanoseconds as whole seconds, rounded up: who waits that long has waited long enough."""
    return -(-ns // SECOND)


class Quantity:
    """A value written as text with its unit; every subclass parses one form and prints it back."""

    form: ClassVar[str]
    pattern: ClassVar[str]
    examples: ClassVar[tuple[str, ...]]
    bounds: ClassVar[str] = "above zero"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text; raises ValueError with the form and an example when it does not fit."""
        raise NotImplementedError

    @classmethod
    def fix(cls, value: object) -> str:
        """A guess at what was meant by a value of the wrong form, for the help of a finding."""
        return cls.examples[0]

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{cls.pattern}$", "examples": list(cls.examples)}

    @classmethod
    def _validate(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise cls._error(value, f"{_shown(value)} is not {cls.form}")
        try:
            return cls.parse(value)
        except ValueError as fault:
            raise cls._error(value, str(fault)) from None

    @classmethod
    def advice(cls, value: object) -> str:
        """What to write instead of a value of the wrong form."""
        return f"write {cls.form}, like `{cls.fix(value)}`"

    @classmethod
    def _error(cls, value: object, what: str) -> PydanticCustomError:
        context: dict[str, Any] = {"what": what, "help": cls.advice(value)}
        return PydanticCustomError("quantity", "{what}", context)

    @classmethod
    def _refusal(cls, text: str) -> ValueError:
        if re.fullmatch(cls.pattern, text):
            return ValueError(f"{_shown(text)} is out of range: it must be {cls.bounds}")
        return ValueError(f"{_shown(text)} is not {cls.form}")


class Duration(int, Quantity):
    """A length of time in nanoseconds, written `300ms`, `30s`, `1h30m`, `14d`; always above zero."""

    form = "a duration with its unit"
    pattern = r"([0-9]{1,9}(ms|s|m|h|d|w))+"
    examples = ("2s", "100ms", "1h30m", "14d")
    bounds = "above zero, and less than 146 years"

    @classmethod
    def parse(cls, text: str) -> Self:
        parts = re.findall(r"([0-9]{1,9})(ms|s|m|h|d|w)", text) if re.fullmatch(cls.pattern, text) else []
        total = sum(int(number) * _DURATIONS[unit] for number, unit in parts)
        if not 0 < total < _LARGEST:
            raise cls._refusal(text)
        return cls(total)

    @classmethod
    def fix(cls, value: object) -> str:
        if isinstance(value, str) and (meant := cls._meant(value)) is not None:
            return meant
        return f"{value}s" if _whole(value) else cls.examples[0]

    @classmethod
    def advice(cls, value: object) -> str:
        if isinstance(value, str) and cls._meant(value) is not None:
            return f"write `{cls.fix(value)}`"
        if isinstance(value, int) and not isinstance(value, bool) and _OFTEN_MS <= value < SECOND:
            return f"its unit is missing: `{value}ms` or `{value}s`?"
        return super().advice(value)

    @classmethod
    def _refusal(cls, text: str) -> ValueError:
        if cls._meant(text) is None:
            return super()._refusal(text)
        units = "`ms`, `s`, `m`, `h`, `d` or `w`"
        return ValueError(
            f"{_shown(text)} is not a duration as one is written: whole numbers, each with {units}"
        )

    @classmethod
    def _meant(cls, text: str) -> str | None:
        """What a text says in other words, or in fractions; None where nobody knows, or it is in the right form."""
        parts = _LOOSELY.findall(text)
        units = [_SPELLINGS.get(unit) for _, unit in parts]
        if not parts or None in units or _LOOSELY.sub("", text) or re.fullmatch(cls.pattern, text):
            return None
        said = zip((Decimal(number) for number, _ in parts), units, strict=True)
        total = sum(number * _DURATIONS[unit] for number, unit in said if unit is not None)
        if not 0 < total < _LARGEST or total % _DURATIONS["ms"]:
            return None
        return _spelled(int(total)) if units[1:] else _whole_of(int(total), str(units[0]))

    @property
    def seconds(self) -> Decimal:
        """The exact length in seconds."""
        return plain(Decimal(int(self)) / SECOND)

    def __str__(self) -> str:
        return _spelled(int(self))

    def __repr__(self) -> str:
        return f"Duration({self})"


@lru_cache(maxsize=1024)
def _spelled(rest: int) -> str:
    text = ""
    for unit, size in reversed(_DURATIONS.items()):
        count, rest = divmod(rest, size) if unit != "w" or rest % size == 0 else (0, rest)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _whole_of(total: int, unit: str) -> str:
    """A length of time as so many of this unit, or of the first smaller one of which it is a whole number."""
    smaller = (one for one in reversed(_DURATIONS) if _DURATIONS[one] <= _DURATIONS[unit])
    unit = next(one for one in smaller if total % _DURATIONS[one] == 0)
    return f"{total // _DURATIONS[unit]}{unit}"


class Size(int, Quantity):
    """A number of bytes, written `512Mi`, `1MiB`, `10kB`; always above zero."""

    form = "a size with its unit"
    pattern = r"[0-9]{1,9}(B|kB|MB|GB|Ki|Mi|Gi|KiB|MiB|GiB)"
    examples = ("512Mi", "1MiB", "100kB")

    @classmethod
    def parse(cls, text: str) -> Self:
        match = re.fullmatch(r"([0-9]{1,9})([A-Za-z]+)", text)
        total = int(match[1]) * _SIZES.get(match[2], 0) if match else 0
        if not 0 < total < _LARGEST:
            raise cls._refusal(text)
        return cls(total)

    @classmethod
    def fix(cls, value: object) -> str:
        return f"{value}Mi" if _whole(value) else cls.examples[0]

    def __str__(self) -> str:
        for unit in ("Gi", "Mi", "Ki", "GB", "MB", "kB"):
            if self % _SIZES[unit] == 0:
                return f"{int(self) // _SIZES[unit]}{unit}"
        return f"{int(self)}B"

    def __repr__(self) -> str:
        return f"Size({self})"


class Throughput(int, Quantity):
    """A number of bytes in a second, written `1KiB/s`; always above zero."""

    form = "a size per second"
    pattern = f"{Size.pattern}/s"
    examples = ("1KiB/s", "100kB/s")

    @classmethod
    def parse(cls, text: str) -> Self:
        size, slash, rest = text.partition("/s")
        try:
            if slash and not rest:
                return cls(Size.parse(size))
        except ValueError:
            pass
        raise cls._refusal(text)

    @classmethod
    def fix(cls, value: object) -> str:
        if isinstance(value, str) and re.fullmatch(Size.pattern, value):
            return f"{value}/s"
        return f"{value}KiB/s" if _whole(value) else cls.examples[0]

    def __str__(self) -> str:
        return f"{Size(self)}/s"

    def __repr__(self) -> str:
        return f"Throughput({self})"


class Cpu(int, Quantity):
    """Processor time in thousandths of a core, written `500m`; always above zero."""

    form = "an amount of CPU in thousandths of a core"
    pattern = r"[0-9]{1,7}m"
    examples = ("500m", "2000m")

    @classmethod
    def parse(cls, text: str) -> Self:
        number = int(text[:-1]) if re.fullmatch(cls.pattern, text) else 0
        if number < 1:
            raise cls._refusal(text)
        return cls(number)

    @classmethod
    def fix(cls, value: object) -> str:
        return f"{int(value) * 1000}m" if _whole(value) else cls.examples[0]  # type: ignore[call-overload]  # `_whole` has seen to it

    @property
    def cores(self) -> Decimal:
        """The exact number of cores."""
        return plain(Decimal(int(self)) / 1000)

    def __str__(self) -> str:
        return f"{int(self)}m"

    def __repr__(self) -> str:
        return f"Cpu({self})"


@dataclass(frozen=True, slots=True, order=True)
class Percent(Quantity):
    """A share, written `99.9%`: above 0 and at most 100; `ratio` is exact, between 0 and 1."""

    ratio: Decimal

    form: ClassVar[str] = "a percentage with its % sign"
    pattern: ClassVar[str] = r"[0-9]{1,3}(\.[0-9]{1,6})?%"
    examples: ClassVar[tuple[str, ...]] = ("99.9%", "50%")
    bounds: ClassVar[str] = "above 0% and at most 100%"

    @classmethod
    def parse(cls, text: str) -> Self:
        value = Decimal(text[:-1]) if re.fullmatch(cls.pattern, text) else Decimal(0)
        if not 0 < value <= 100:
            raise cls._refusal(text)
        return cls(plain(value / 100))

    @classmethod
    def fix(cls, value: object) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 100:
            number = Decimal(str(value))
            return f"{_digits(plain(number * 100 if number <= 1 else number))}%"
        return cls.examples[0]

    @property
    def parts(self) -> int:
        """How many of `PARTS`."""
        return int(self.ratio * PARTS)

    def __str__(self) -> str:
        return f"{_digits(plain(self.ratio * 100))}%"


@dataclass(frozen=True, slots=True)
class Rate(Quantity):
    """So many in a period, written `300/minute`, `5/15m`, `1000/s`; both parts above zero."""

    count: int
    period: Duration

    form: ClassVar[str] = "a rate: a count, a slash and a period"
    pattern: ClassVar[str] = r"[0-9]{1,9}/([0-9]{1,6}(s|m|h|d)|s|m|h|d|(second|minute|hour|day)s?)"
    examples: ClassVar[tuple[str, ...]] = ("300/minute", "5/15m", "1000/second")

    @classmethod
    def parse(cls, text: str) -> Self:
        if not re.fullmatch(cls.pattern, text):
            raise cls._refusal(text)
        count, period = text.split("/")
        if int(count) < 1:
            raise cls._refusal(text)
        return cls(int(count), Duration.parse(f"1{_PERIODS[period]}" if period in _PERIODS else period))

    @classmethod
    def fix(cls, value: object) -> str:
        return f"{value}/minute" if _whole(value) else cls.examples[0]

    @classmethod
    def advice(cls, value: object) -> str:
        if isinstance(value, Sequence) and not isinstance(value, str):
            return "a limit has one rate: write a limit for each, with a name of its own; all of them hold"
        return super(Rate, cls).advice(value)  # the class of `slots` is another one than that of this text

    @property
    def per_second(self) -> Decimal:
        """The mean rate per second, to 28 significant digits."""
        return plain(Decimal(self.count) / self.period.seconds)

    def __str__(self) -> str:
        period = str(self.period)
        return f"{self.count}/{_PERIOD_NAMES.get(period, period)}"


def plain(number: Decimal) -> Decimal:
    """The same number without trailing zeros or exponent: what may be printed into a rule."""
    number = number.normalize()
    return number.quantize(Decimal(1)) if number == number.to_integral_value() else number


def _digits(number: Decimal) -> str:
    return f"{number:f}"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**6


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "an empty value", True: "`true`", False: "`false`"}[value]
    if isinstance(value, str | int | float):
        return f"`{value}`"
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else "a value"
