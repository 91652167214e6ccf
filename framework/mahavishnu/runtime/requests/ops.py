"""What operators are told, who show the token: whom the limits of this process refuse most."""

from __future__ import annotations

import json
from hmac import compare_digest
from typing import NamedTuple
from urllib.parse import parse_qs

from mahavishnu.algorithms import Gcra
from mahavishnu.protocols import Algorithm, Clock, Decision
from mahavishnu.runtime.keys import outside
from mahavishnu.runtime.limits.fields import QUOTA_EXCEEDED, Header, problem
from mahavishnu.runtime.limits.memory_store import MemoryStore
from mahavishnu.runtime.limits.offenders import Refusals
from mahavishnu.runtime.requests.forwarding import LONGEST_NODE, address_of
from mahavishnu.runtime.requests.identity import bucket
from mahavishnu.units import MINUTE, SECOND

SHORT = 16
"""A token of fewer characters might be guessed, at ten guesses a minute from each address."""
_MOST = 20
_LONGEST_CLIENT = 256
_ABOUT = (
    "Clients refused in the last five to ten minutes by this process. `client` is a hash with a key of this "
    "process: the same client has another one elsewhere and after a restart; `?client=<address or user>` tells "
    "the hash of one you know. A client was refused `refused` times, and at most `missed` times more; a limit in "
    "`mode: observe` would have refused it, and let it in."
)


class Answer(NamedTuple):
    """A response."""

    status: int
    headers: list[Header]
    body: bytes


class _Guesses(NamedTuple):
    """How often an address may show a wrong token."""

    name: str = "ops"
    algorithm: Algorithm = Gcra(10, MINUTE, 10)
    cost: int = 1
    enforced: bool = True


_GUESSES = (_Guesses(),)


class Ops:
    """The answers to operators; `token` None lets nobody in."""

    def __init__(self, refusals: Refusals, clock: Clock, token: str | None) -> None:
        self._refusals = refusals
        self._now = clock.now
        self._token = None if token is None else token.encode()
        self._guesses = MemoryStore(clock, cap=1000)

    def refused(self, address: str, authorization: bytes, query: bytes) -> Answer:
        """The clients that each limit refuses most, as JSON."""
        refusal = self._judged(address, authorization)
        if refusal is not None:
            return refusal
        said = {"about": _ABOUT, **self._asked(query), "limits": self._limits()}
        return _answer(200, json.dumps(said, indent=1).encode())

    def _judged(self, address: str, authorization: bytes) -> Answer | None:
        """Why somebody is told nothing. Too many wrong tokens shut an address out, the right one included: an
        answer to that would tell it apart."""
        taken = self._guesses.take(_GUESSES, (address,))
        if not taken.admitted:
            wait = taken.standing(0).retry_after
            detail = "too many requests without the right token"
            body, headers = problem(Decision(False, "ops", 429, QUOTA_EXCEEDED, detail, wait))
            return Answer(429, headers, body)
        scheme, _, token = authorization.partition(b" ")
        right = compare_digest(token.strip(), self._token or b"\0")
        if right and scheme.lower() == b"bearer" and self._token:
            self._guesses.give_back(taken)
            return None
        answer = _answer(401, b'{"error": "this needs the token of the spec: Authorization: Bearer ..."}')
        return answer._replace(headers=[*answer.headers, (b"www-authenticate", b'Bearer realm="mahavishnu"')])

    def _limits(self) -> dict[str, object]:
        now, shown = self._now(), dict[str, object]()
        for limit in self._refusals.limits:
            total, missed, offenders = self._refusals.top(limit, _MOST)
            clients = [
                {
                    "client": one.hash,
                    "refused": one.refused,
                    "seconds_ago": round((now - one.last) / SECOND, 3),
                }
                for one in offenders
            ]
            shown[limit] = {"refused": total, "missed": missed, "clients": clients}
        return shown

    def _asked(self, query: bytes) -> dict[str, object]:
        """The hashes of the client that was asked for: as an address, where it is one, and as a user."""
        said = parse_qs(query[: 4 * _LONGEST_CLIENT].decode("latin-1")).get("client", [])
        if not said or len(said[0]) > _LONGEST_CLIENT:
            return {}
        node = said[0].encode("utf-8", "replace")
        address = address_of(node) if len(node) <= LONGEST_NODE else None
        named = None if address is None else self._refusals.hash(bucket(str(address)))
        return {"asked": {"as_address": named, "as_user": self._refusals.hash(outside("u", said[0]))}}


def _answer(status: int, body: bytes) -> Answer:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Answer(status, headers, body)
