"""Quantities: text to exact number and back, and what is no quantity."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mahavishnu.units import Cpu, Duration, Percent, Quantity, Rate, Size, Throughput, plain

GOOD = [
    (Duration, "2s", 2 * 10**9, "2s"),
    (Duration, "1h30m", 5400 * 10**9, "1h30m"),
    (Duration, "1500ms", 1500 * 10**6, "1s500ms"),
    (Duration, "90m", 5400 * 10**9, "1h30m"),
    (Duration, "14d", 14 * 86400 * 10**9, "2w"),
    (Duration, "45d", 45 * 86400 * 10**9, "45d"),
    (Size, "512Mi", 512 * 2**20, "512Mi"),
    (Size, "1MiB", 2**20, "1Mi"),
    (Size, "100kB", 100_000, "100kB"),
    (Size, "1000B", 1000, "1kB"),
    (Throughput, "1KiB/s", 1024, "1Ki/s"),
    (Throughput, "100kB/s", 100_000, "100kB/s"),
    (Cpu, "500m", 500, "500m"),
]
BAD = {
    Duration: [
        "",
        "2",
        "0s",
        "-2s",
        "2 s",
        "2S",
        "1.5s",
        "s",
        "2us",
        "inf",
        "nan",
        "9" * 30 + "s",
        "٢s",
        "2s\n",
    ],
    Size: ["", "512", "0Mi", "-1Mi", "1.5Gi", "1TB", "1mi", "Mi", "1Mi\n"],
    Throughput: [
        "",
        "1KiB",
        "1KiB/",
        "/s",
        "1/s",
        "0B/s",
        "-1B/s",
        "1KiB/m",
        "1KiB/s/s",
        "1KiB/s\n",
        "1KiB /s",
    ],
    Cpu: ["", "1", "0m", "-5m", "0.5", "500M", "m"],
    Percent: ["", "99", "0.999", "0%", "101%", "-1%", "1e1%", "99,9%", "100.0000001%", "nan%", "5%\n"],
    Rate: [
        "",
        "300",
        "0/minute",
        "-1/s",
        "5/",
        "/s",
        "5/0s",
        "5/fortnight",
        "5/15",
        "1.5/s",
        "5/15ms",
        "5 / s",
        "5/s\n",
    ],
}


@pytest.mark.parametrize(("unit", "text", "number", "printed"), GOOD)
def test_reads_exactly_and_prints_shortly(unit: type[Duration], text: str, number: int, printed: str) -> None:
    """The number is exact, and what is printed reads back as the same."""
    quantity = unit.parse(text)
    assert int(quantity) == number
    assert str(quantity) == printed
    assert unit.parse(printed) == quantity


@pytest.mark.parametrize(("unit", "text"), [(unit, text) for unit, texts in BAD.items() for text in texts])
def test_refuses(unit: type[Quantity], text: str) -> None:
    """A wrong form is an error that says which form is right; a right one out of bounds, that it is."""
    fits = re.fullmatch(unit.pattern, text)
    with pytest.raises(ValueError, match="is out of range: it must be above" if fits else "is not a"):
        unit.parse(text)


@given(st.integers(1, 2**61))
def test_every_duration_in_milliseconds_prints_and_reads_back(number: int) -> None:
    """Printing loses nothing."""
    duration = Duration(number // 10**6 * 10**6 or 10**6)
    assert Duration.parse(str(duration)) == duration


@given(st.integers(1, 10**8))
def test_every_percentage_is_exact(millionths: int) -> None:
    """The ratio is the decimal that was written, and prints as it was written."""
    text = f"{plain(Decimal(millionths) / 10**6):f}%"
    share = Percent.parse(text)
    assert share.ratio * 100 == Decimal(millionths) / 10**6
    assert str(share) == text


@pytest.mark.parametrize(
    ("text", "printed"), [("300/m", "300/minute"), ("5/900s", "5/15m"), ("60/hours", "60/hour")]
)
def test_one_rate_has_one_spelling(text: str, printed: str) -> None:
    """However it was written, it prints in one way."""
    assert str(Rate.parse(text)) == printed


def test_advice_keeps_the_number_that_was_meant() -> None:
    """The fix for a bare number has that number in it."""
    fixes = [Percent.fix(0.9995), Percent.fix(95), Duration.fix(30), Rate.fix(120), Size.fix(256), Cpu.fix(2)]
    assert fixes == ["99.95%", "95%", "30s", "120/minute", "256Mi", "2000m"]
    assert [Throughput.fix(value) for value in (5, "2kB", "x")] == ["5KiB/s", "2kB/s", "1KiB/s"]


def test_several_rates_are_several_limits() -> None:
    """Whoever writes a list means all of them."""
    assert "a limit for each" in Rate.advice(["10/second", "300/minute"])
    assert "300/minute" in Rate.advice("many")
