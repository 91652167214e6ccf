"""What a collector says of what it does not take: short, printable, and without the secrets that it was sent."""

from __future__ import annotations

import pytest

from mahavishnu.runtime.telemetry.remarks import worded


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"", "HTTP 400"),
        (b"\x00\xff", "HTTP 400: \N{REPLACEMENT CHARACTER}"),
        (b"out of order sample\n", "HTTP 400: out of order sample"),
        (b"\x08\x03\x12\x13out of order sample", "HTTP 400: out of order sample"),
        (b"\x12\x13out of order sample\x1a\x02\x0a\x00", "HTTP 400: out of order sample"),
        (b"\x08\x90\x03\x12\xac\x02" + b"a" * 300, f"HTTP 400: {'a' * 199}…"),
        (b'{"code": 3,\n  "message": "old"}', 'HTTP 400: {"code": 3, "message": "old"}'),
        ("no \x1b[31m \u202e series".encode(), "HTTP 400: no [31m series"),
    ],
)
def test_what_is_said_is_told(said: bytes, shown: str) -> None:
    """As text, and as the status of gRPC, which is how OTLP wants it said."""
    assert worded("HTTP 400", said, ()) == shown


def test_secrets_are_hidden_before_it_is_cut() -> None:
    """Whole headers, and the words in them; what is too short to be a secret stays."""
    sent = ["hush-hush-hush", "Basic bWU6aHVudGVyMg==", "1"]
    said = b" key hush-hush-hush, Basic bWU6aHVudGVyMg== of 1"
    assert worded("HTTP 401", said, sent) == "HTTP 401: key <secret>, <secret> of 1"
    assert worded("HTTP 401", b"bWU6aHVudGVyMg==", sent) == "HTTP 401: <secret>"
    assert worded("HTTP 401", b"x" * 190 + said, sent) == f"HTTP 401: {'x' * 190} key <sec…"
