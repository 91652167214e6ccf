"""How much a pod may write before it is evicted, in MiB: its volumes count, but for disks of their own, and its log."""

from __future__ import annotations

from mahavishnu.container import letters_folder
from mahavishnu.spec import Spec

TEMPORARY = 64
"""What /tmp holds."""
# The log, of which a node keeps five files of 10 MiB, and what else is written where nobody looks for it.
_BESIDE = 192


def letters_room(spec: Spec) -> int:
    """What dead letters in a file take: pages, and the log of what is being written, are beside what is counted."""
    return 0 if letters_folder(spec) is None else 64 + 2 * (int(spec.dead_letters.size) // 2**20)


def storage(*volumes: int) -> str:
    """The limit of a pod with these volumes, as Kubernetes writes it."""
    return mebibytes(_BESIDE + sum(volumes))


def mebibytes(number: int) -> str:
    """A number of them, as Kubernetes writes it."""
    return f"{number}Mi"
