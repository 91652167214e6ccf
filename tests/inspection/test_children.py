"""Children side by side: so many, in their order, and none that outlives a Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from mahavishnu.inspection import children
from mahavishnu.inspection.children import Child, ran


def shell(folder: Path, script: str) -> Child:
    """A child that runs a script in a folder."""
    return Child(["/bin/sh", "-c", script], folder, os.environ)


def appeared(path: Path) -> str:
    """What is in a file, as soon as there is something."""
    while not (path.exists() and path.read_text()):
        time.sleep(0.005)  # another process writes it
    return path.read_text()


def test_the_first_comes_first_though_it_is_the_last_to_end(tmp_path: Path) -> None:
    """Each waits for the one after it, so all run at the same time."""
    waits = [
        f"until [ -e {at + 1} ]; do sleep 0.01; done; touch {at}; echo {at}; exit {at}" for at in range(3)
    ]
    done = ran([shell(tmp_path, script) for script in (*waits, "touch 3; echo 3; exit 3")], 20)

    assert [(one.returncode, one.stdout) for one in done if one] == [(at, f"{at}\n") for at in range(4)]


def test_no_more_run_at_a_time_than_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each counts those that run while it does."""
    monkeypatch.setattr(children, "AT_ONCE", 2)
    done = ran([shell(tmp_path, "mkdir $$; sleep 0.05; ls | wc -l; rmdir $$")] * 5, 20)

    counted = [int(one.stdout) for one in done if one]
    assert len(counted) == 5
    assert max(counted) <= 2


def test_who_shares_may_take_longer(tmp_path: Path) -> None:
    """A second alone would be too long; four of them may need four cores and have one."""
    assert ran([shell(tmp_path, "sleep 0.5")], 0.2) == [None]
    assert None not in ran([shell(tmp_path, "sleep 0.5")] * 4, 0.2)


def test_a_ctrl_c_ends_all_of_them(tmp_path: Path) -> None:
    """It need not come from a terminal, which would tell them too; what waits for its turn never begins."""

    seen = threading.Event()

    def interrupt() -> None:
        appeared(tmp_path / "3")
        while not seen.wait(
            1
        ):  # Python sees no signal that comes just as it begins to wait, until the wait ends
            os.kill(os.getpid(), signal.SIGINT)

    def raises(number: int, frame: object) -> None:
        seen.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, raises)
    began = time.monotonic()
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            ran([shell(tmp_path, f"echo $$ > {at}; exec sleep 30") for at in range(6)], 60)
    finally:
        signal.signal(signal.SIGINT, before)

    assert time.monotonic() - began < 20
    running = [int(appeared(tmp_path / str(at))) for at in range(3)]
    assert not any(Path(f"/proc/{pid}").exists() for pid in running)
    assert not (tmp_path / "5").exists()
