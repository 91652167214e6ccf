"""Python that has loaded the package, and forks: a process of a test costs no import of what is loaded anyway."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mahavishnu.inspection.children import Child, Ran

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["mahavishnu.asgi", "mahavishnu.cli.check", "mahavishnu.inspection.look"])


def run(
    command: Sequence[str],
    *,
    cwd: str | Path,
    env: Mapping[str, str],
    timeout: float = 120,
    errors: str = "strict",
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of `[sys.executable, "-m", module, …]`, with what it writes as text.

    For tests whose subject is neither how Python starts, nor how it ends: of the latter, what `atexit` has is left out.
    Raises TimeoutExpired.
    """
    interpreter, dash_m, *words = command
    assert (interpreter, dash_m) == (sys.executable, "-m")
    with TemporaryDirectory() as folder:
        child = _SERVER.Process(target=_child, args=(words, str(cwd), {**env}, folder))
        child.start()
        child.join(timeout)
        if child.exitcode is None:
            child.kill()
            child.join()
            raise subprocess.TimeoutExpired(command, timeout)
        out, err = (Path(folder, name).read_text("utf-8", errors) for name in ("1", "2"))
    return subprocess.CompletedProcess(command, child.exitcode, out, err)


def ran(children: Sequence[Child], seconds: float) -> list[Ran | None]:
    """In the place of `mahavishnu.inspection.children.ran`, one after the other."""
    return [_ran(child, seconds) for child in children]


def _ran(child: Child, seconds: float) -> Ran | None:
    try:
        return run(child.words, cwd=child.folder, env=child.environment, timeout=seconds, errors="replace")
    except subprocess.TimeoutExpired:
        return None


def _child(words: list[str], cwd: str, env: dict[str, str], folder: str) -> None:
    for descriptor in (1, 2):
        os.dup2(os.open(f"{folder}/{descriptor}", os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = words
    sys.modules.pop(words[0], None)
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
