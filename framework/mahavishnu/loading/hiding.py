"""What might be a secret in a line of text, hidden, in time that grows with its length and no faster."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mahavishnu.ground.hooks import SECRET_PART

SENSITIVE = re.compile(
    r"passw|secret|token|credential|api_?key|routing_?key|private|slack|pagerduty", re.IGNORECASE
)
"""What speaks of secrets in the name of a key."""
_WORD = re.compile(r"(?<![\w-])[\w-]++")
_VALUE = re.compile(r"[\"']?\s*[:=]\s*[\"']?(?!\s|\$\{|[\[{\"'])([^\s,}\"'#][^\s,}\"']*)")
_TOKEN = re.compile(r"[^\s\"']+")
_LONG = re.compile(r"[^\s,\"'\[\]{}]{12,}")


def without_values(line: str) -> str:
    """The line without what stands behind a word that speaks of secrets, as in YAML or in an option of a command."""
    spans: list[tuple[int, int]] = []
    for word in _WORD.finditer(line):
        inside = spans and word.start() < spans[-1][1]
        if not inside and SENSITIVE.search(word[0]) and (found := _VALUE.match(line, word.end())):
            spans.append(found.span(1))
    return covered(line, spans)


def without_logins(line: str) -> str:
    """The line without logins of URLs, and without passwords of logins like `me:password@host`."""
    return _TOKEN.sub(_without_login, line)


def without_tokens(line: str) -> str:
    """The line without long words of letters and digits, as keys and tokens are."""
    return _LONG.sub(_without_token, line)


def without_hooks(line: str) -> str:
    """The line without what is secret of the URLs of webhooks."""
    return covered(line, (found.span("secret") for found in SECRET_PART.finditer(line)))


def without_queries(url: str) -> str:
    """A URL without what its query says of secrets, and without what is secret of a webhook's; other text as it is."""
    place, mark, query = without_hooks(url).partition("?")
    return f"{place}{mark}{without_values(query)}" if "://" in place else url


def covered(line: str, spans: Iterable[tuple[int, int]]) -> str:
    """The line with stars in these places, each from where it starts to before where it ends."""
    pieces: list[str] = []
    at = 0
    for start, end in sorted(spans):
        pieces += line[at:start], "*" * (min(end, len(line)) - max(start, at))
        at = max(at, end)
    return "".join((*pieces, line[at:]))


def _without_login(token: re.Match[str]) -> str:
    """To the last `@`, for a password may hold it and `/`; `sftp:me@host` has none, and no image with its digest."""
    text = token[0]
    end = text.rfind("@")
    if text.startswith("@sha256:", end):
        end = text.rfind("@", 0, end)
    start = text.find("://") + 3 if "://" in text[: max(end, 0)] else text.find(":") + 1
    if text[:start].endswith("sftp:"):
        start = text.find(":", start) + 1
    return covered(text, [(start, end)]) if 0 < start < end else text


def _without_token(word: re.Match[str]) -> str:
    text = word[0]
    return "*" * len(text) if re.search("[0-9]", text) and re.search("[A-Za-z]", text) else text
