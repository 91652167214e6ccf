"""A file that a process holds for as long as it lives, however it ends, and whatever it has forked."""

from __future__ import annotations

import os

_ALL = set["Held"]()
"""What this process holds. Its forks let go of it: one that lives on would hold it, too."""


class Held:
    """An open file with a flock on it, which the kernel takes off when the process ends."""

    def __init__(self, file: int) -> None:
        self.file = file
        _ALL.add(self)

    @property
    def gone(self) -> bool:
        """Whether somebody has removed it, so that nobody else can see it; raises OSError after it was let go."""
        return os.fstat(self.file).st_nlink == 0

    def let_go(self) -> None:
        """Hold it no longer; a descriptor of that number is somebody else's from now on."""
        _ALL.discard(self)
        file, self.file = self.file, -1
        if file >= 0:
            os.close(file)


def _let_go_of_all() -> None:
    for one in [*_ALL]:
        one.let_go()


os.register_at_fork(after_in_child=_let_go_of_all)
