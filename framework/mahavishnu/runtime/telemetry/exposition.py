"""The series as text, in both forms Prometheus reads: byte for byte prometheus_client's, without its long pause."""

# A scrape is answered on the event loop, and nobody else meanwhile.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mahavishnu.runtime.telemetry.cells import Exemplar, HistogramCell
from mahavishnu.runtime.telemetry.shown import Shown
from mahavishnu.runtime.telemetry.snapshot import LabelValues
from mahavishnu.signals import Signal, boundary_text

_EXPONENTS = 10**6  # from here on
_ODD = {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}


def text_of(shown: Shown, *, openmetrics: bool) -> bytes:
    """What is shown, as OpenMetrics 1.0 with exemplars, or as the text format 0.0.4 without."""
    lines: list[str] = []
    for name, counters in shown.counters.items():
        lines += _head(shown.signal(name), name.removesuffix("_total") if openmetrics else name, openmetrics)
        lines += _numbers(shown.signal(name), counters)
    for name, gauges in shown.gauges.items():
        lines += _head(shown.signal(name), name, openmetrics)
        lines += _numbers(shown.signal(name), gauges)
    for name, cells in shown.histograms.items():
        lines += _head(shown.signal(name), name, openmetrics)
        lines += _histograms(shown.signal(name), cells, openmetrics)
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode()


def _head(signal: Signal, name: str, openmetrics: bool) -> Iterator[str]:
    help = _escaped(signal.help) if openmetrics else _escaped(signal.help).replace(r"\"", '"')
    yield f"# HELP {name} {help}\n"
    yield f"# TYPE {name} {signal.kind}\n"


def _numbers(signal: Signal, numbers: Mapping[LabelValues, float]) -> Iterator[str]:
    for values, value in numbers.items():
        yield f"{signal.name}{_braced(_pairs(signal, values))} {_number(value)}\n"


def _histograms(
    signal: Signal, cells: Mapping[LabelValues, HistogramCell], openmetrics: bool
) -> Iterator[str]:
    texts = (*map(boundary_text, signal.buckets), "+Inf")
    for values, cell in cells.items():
        pairs = _pairs(signal, values)
        before = "".join(f"{pair}," for pair in pairs if pair < "le=")
        after = "".join(f",{pair}" for pair in pairs if pair > "le=")
        exemplars = cell.exemplars or {} if openmetrics else {}
        total = 0
        for place, count in enumerate(cell.counts):
            total += count
            shown = f"{total}.0" if total < _EXPONENTS else _number(total)
            told = _told(exemplars[place]) if place in exemplars else ""
            yield f'{signal.name}_bucket{{{before}le="{texts[place]}"{after}}} {shown}{told}\n'
        labels = _braced(pairs)
        yield f"{signal.name}_count{labels} {_number(total)}\n{signal.name}_sum{labels} {_number(cell.sum)}\n"


def _pairs(signal: Signal, values: LabelValues) -> list[str]:
    """`name="value"` for each label, in the order of their names."""
    named = sorted(zip((label.name for label in signal.labels), values, strict=True))
    return [f'{name}="{_escaped(value)}"' for name, value in named]


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _braced(pairs: Iterable[str]) -> str:
    text = ",".join(pairs)
    return f"{{{text}}}" if text else ""


def _told(one: Exemplar) -> str:
    return f' # {{span_id="{one.span}",trace_id="{one.trace}"}} {_number(one.value)} {one.at}'


def _number(value: float) -> str:
    """As Go writes it, which takes to exponents sooner than Python."""
    text = repr(float(value))
    whole, point, part = text.partition(".")
    if value < _EXPONENTS or not point or len(whole) == 1:
        return _ODD.get(text, text)
    mantissa = f"{whole[0]}.{whole[1:]}{part}".rstrip("0.")
    return f"{mantissa}e+{len(whole) - 1:02d}"
