"""What to say of a word that nobody knows: which known one was probably meant."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from difflib import get_close_matches
from itertools import takewhile


def meant(word: object, words: Collection[str]) -> str:
    """The help of a finding about a word that is unknown; nothing where no word is known."""
    near = nearest(word, words)
    if near:
        return f"did you mean `{near}`?"
    return f"use one of {listing(words)}" if words else ""


def nearest(word: object, words: Collection[str]) -> str:
    """The word that was probably meant, or nothing; what all of several begin with makes none of them like it."""
    plain = {_plain(one): one for one in words}
    start = _beginning(plain)
    known = {one.removeprefix(start): whole for one, whole in plain.items()}
    close = get_close_matches(_plain(str(word)).removeprefix(start), list(known), n=1, cutoff=0.6)
    return known[close[0]] if close else ""


def listing(words: Collection[str], most: int = 12) -> str:
    """`a`, `b`, `c`."""
    shown = [f"`{word}`" for word in list(words)[:most]]
    return ", ".join(shown) + (f" and {len(words) - most} more" if len(words) > most else "")


def unaccented(word: str) -> str:
    """The word by its letters alone: `naïve` as `naive`."""
    apart = unicodedata.normalize("NFKD", word.replace("ß", "ss"))
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def _beginning(words: Collection[str]) -> str:
    """The first parts of names that all of several have."""
    if len(words) < 2:
        return ""
    same = takewhile(lambda letters: len({*letters}) == 1, zip(*words, strict=False))
    shared = "".join(letters[0] for letters in same)
    return shared[: shared.rfind("_") + 1]


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
