"""What proxies say of whom they speak for, and how he came: X-Forwarded-For and -Proto, or Forwarded, nearest first."""

# All are read from the right, where trusted proxies write: nothing further to the left, which a client may have
# written, changes how they are read.

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from mahavishnu.ground.addresses import Address

Header = Literal["x-forwarded-for", "forwarded"]

LONGEST_CHAIN = 50
LONGEST_NODE = 80
BROKEN = b","
"""A node that cannot be read, whoever wrote it."""
HIDDEN = b"unknown"
"""A node that is not told (RFC 7239, sections 6.2 and 6.3)."""
SECURE: Mapping[bytes, bool] = {b"http": False, b"ws": False, b"https": True, b"wss": True}
"""The schemes that a proxy may name, and whether they are by TLS."""

_PORT = rb"(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_NODE = re.compile(
    rb"(?P<four>[0-9]{1,3}(?:\.[0-9]{1,3}){3})" + _PORT
    + rb"|\[(?P<six>[0-9A-Fa-f:.]+)(?:%[^\]\s]*)?\]" + _PORT
    + rb"|(?P<bare>[0-9A-Fa-f:.]+)(?:%[^\]\s]*)?"
)  # fmt: skip
_HIDDEN = re.compile(rb"(?:unknown|_[A-Za-z0-9._-]+)" + _PORT, re.IGNORECASE)
# Commas and quotes in one header; more of them are an attack on whoever counts them.
_MOST_MARKS = 1000
# One `name=value` of an element, or nothing, up to its semicolon; a value that is not quoted may hold brackets.
_PAIR = re.compile(
    rb"[ \t]*(?:(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<plain>[^\s\",;=\\]+)))?"
    rb"[ \t]*(?:;|\Z)",
    re.DOTALL,
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def nodes_of(header: Header) -> Callable[[Sequence[bytes]], Iterator[bytes]]:
    """How the lines of this header are read."""
    return _NODES[header]


def nearest_proto(lines: Sequence[bytes]) -> bytes:
    """The scheme that the nearest proxy names in X-Forwarded-Proto; no other value there has a known writer."""
    return lines[-1].rpartition(b",")[2].strip(b" \t").lower()


def address_of(node: bytes) -> Address | None:
    """The address of a node, without port, brackets and zone; IPv4 inside IPv6 is IPv4. None: it names none."""
    match = _NODE.fullmatch(node)
    if match is None:
        return None
    try:
        if match["four"]:
            return IPv4Address(match["four"].decode("ascii"))
        six = IPv6Address((match["six"] or match["bare"]).decode("ascii"))
    except ValueError:
        return None
    return six.ipv4_mapped or six


def is_hidden(node: bytes) -> bool:
    """Whether the proxy says that it does not tell: `unknown`, or a name of its own like `_gateway`."""
    return _HIDDEN.fullmatch(node) is not None


def _x_forwarded_for(lines: Sequence[bytes]) -> Iterator[bytes]:
    """Its nodes from the right; what is beyond the longest chain cannot be read."""
    nodes = b",".join(lines).rsplit(b",", LONGEST_CHAIN)
    for node in reversed(nodes[-LONGEST_CHAIN:]):
        yield node.strip(b" \t")
    if len(nodes) > LONGEST_CHAIN:
        yield BROKEN


def _of_elements(read: Callable[[bytes], bytes], lines: Sequence[bytes]) -> Iterator[bytes]:
    """What each element of RFC 7239 says, from the right."""
    for count, element in enumerate(_elements(b",".join(lines))):
        if count == LONGEST_CHAIN:
            yield BROKEN
            return
        yield read(element)


def _elements(text: bytes) -> Iterator[bytes]:
    """What commas outside quotes part, from the right, and no further than it is asked for."""
    end = at = len(text)
    quoted = False
    for _ in range(_MOST_MARKS):
        quote = text.rfind(b'"', 0, at)
        comma = -1 if quoted else text.rfind(b",", 0, at)
        if quote > comma:
            quoted ^= not _escaped(text, quote)
            at = quote
        elif comma >= 0:
            yield text[comma + 1 : end]
            end = at = comma
        else:
            yield text[:end]
            return
    yield BROKEN


def _escaped(text: bytes, at: int) -> bool:
    """Whether an odd number of backslashes stands before this place."""
    before = at
    while before and text[before - 1] == 0x5C:
        before -= 1
    return (at - before) % 2 == 1


def _for(element: bytes) -> bytes:
    """The node that an element speaks for."""
    found = _values(element, b"for")
    if found is None or len(found) > 1:
        return BROKEN
    return found[0] if found else HIDDEN


def _proto(element: bytes) -> bytes:
    """The scheme by which the node of an element came."""
    found = _values(element, b"proto") or ()
    return found[0].lower() if len(found) == 1 else b""


def _values(element: bytes, wanted: bytes) -> list[bytes] | None:
    """All that an element says by this name; None: it cannot be read."""
    found: list[bytes] = []
    at = 0 if element.strip(b" \t") else -1
    while 0 <= at < len(element):
        match = _PAIR.match(element, at)
        at = match.end() if match else -1
        if match and match["name"] and match["name"].lower() == wanted:
            found.append(match["plain"] or _ESCAPED.sub(rb"\1", match["quoted"]))
    return None if at < 0 else found


protos = partial(_of_elements, _proto)
"""The `proto` of each element of Forwarded, from the right."""
_NODES: Mapping[Header, Callable[[Sequence[bytes]], Iterator[bytes]]] = {
    "x-forwarded-for": _x_forwarded_for,
    "forwarded": partial(_of_elements, _for),
}
