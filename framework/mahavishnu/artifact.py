"""One generated file, and what a generator is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from mahavishnu.contract import Contract


@dataclass(frozen=True, slots=True, order=True)
class Artifact:
    """A file to be written: its path below the output folder, with `/`, and its whole text."""

    path: str
    text: str


class Generator(Protocol):
    """A module of `mahavishnu.generators`, or an entry point of that group: a pure function of the contract."""

    def generate(self, contract: Contract) -> Iterable[Artifact]: ...
