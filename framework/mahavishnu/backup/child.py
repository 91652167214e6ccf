"""Child processes that are told what they need, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread
from typing import IO, NamedTuple

_KEPT = (
    "HOME", "LANG", "LC_ALL", "PATH", "SSH_AUTH_SOCK", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "TZ", "USER",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
_TAIL = 4096
_SOON = 1
_FILES_OF_PROCESSES = Path("/proc/self/fd")
_LOCKS: ContextVar[tuple[int, ...]] = ContextVar("mahavishnu_backup_locks", default=())


class Done(NamedTuple):
    """How a child ended: its exit code, what it wrote, and the end of its complaints."""

    code: int
    out: str
    err: str


@contextmanager
def handed(text: str) -> Generator[str]:
    """A path under which a child that is given `fd_of` it can read the text; it is on no disk.

    Neither an argument nor a variable: those are seen by others, and handed on to grandchildren.
    """
    if hasattr(os, "memfd_create"):
        held = os.memfd_create("handed")
    else:
        held, path = tempfile.mkstemp()
        Path(path).unlink()
    try:
        os.write(held, text.encode())
        os.lseek(held, 0, os.SEEK_SET)
        yield f"/dev/fd/{held}"
    finally:
        os.close(held)


@contextmanager
def lent(text: str) -> Generator[str]:
    """A path under which any process of this user can read the text: for those that close what they are handed.

    It is on no disk where there is a /proc; elsewhere it is in a file that nobody else may read.
    """
    if _FILES_OF_PROCESSES.is_dir():
        with handed(text) as path:
            os.fchmod(fd_of(path), 0o600)
            yield f"/proc/{os.getpid()}/fd/{fd_of(path)}"
    else:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            yield file.name


@contextmanager
def locked(held: int) -> Generator[None]:
    """Children that are handed something hold this lock, too: it lasts until the last of them has ended.

    If this process is killed, a child of it may go on; nobody else shall begin beside that one.
    """
    token = _LOCKS.set((*_LOCKS.get(), held))
    try:
        yield
    finally:
        _LOCKS.reset(token)


def fd_of(path: str) -> int:
    """The descriptor behind a handed path."""
    return int(path.rpartition("/")[2])


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a child is told: how to find programs, names and proxies, and what is said here."""
    return {**{name: os.environ[name] for name in _KEPT if name in os.environ}, **more}


def run(
    words: Sequence[str],
    env: Mapping[str, str],
    *,
    handed_paths: Iterable[str] = (),
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | None = None,
    on_line: Callable[[str], bool] | None = None,
    on_complaint: Callable[[str], bool] | None = None,
) -> Done:
    """Run a child to its end. Lines of its output that `on_line` takes (True) are not kept.

    Raises OSError when it cannot be started. Whatever is raised here, the child has ended.
    """
    descriptors = [fd_of(path) for path in handed_paths]
    if descriptors:
        descriptors += _LOCKS.get()
    with ExitStack() as stack:
        err = stack.enter_context(tempfile.TemporaryFile())
        with _undisturbed():
            child = subprocess.Popen(
                words,
                env=environment(env),
                stdin=stdin if stdin is not None else subprocess.DEVNULL,
                stdout=stdout if stdout is not None else subprocess.PIPE,
                stderr=err,
                pass_fds=descriptors,
                process_group=0,
            )
            stack.callback(_end, child)
        if on_complaint is not None:
            stack.enter_context(_listening(err, on_complaint))
        kept = [line for line in _lines(child) if on_line is None or not on_line(line)]
        code = child.wait()
        return Done(code, "".join(kept), _tail(err))


@contextmanager
def _undisturbed() -> Generator[None]:
    """A signal that would raise an exception here does so at the end: nobody ends a child that is not known yet."""
    heard: list[int] = []
    both = (signal.SIGINT, signal.SIGTERM) if current_thread() is main_thread() else ()
    before = {one: handler for one in both if callable(handler := signal.getsignal(one))}
    for one in before:
        signal.signal(one, lambda number, _: heard.append(number))
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        for number in heard:
            signal.raise_signal(number)


def _lines(child: subprocess.Popen[bytes]) -> Generator[str]:
    if child.stdout is not None:
        with child.stdout as stream:
            for line in stream:
                yield line.decode("utf-8", "replace")


@contextmanager
def _listening(err: IO[bytes], on_complaint: Callable[[str], bool]) -> Generator[None]:
    """Hand on each line of complaint soon after it was written, from a thread, until one is taken or all were heard."""
    over = Event()

    def listen() -> None:
        at, ended = 0, False
        while not ended:
            ended = over.wait(_SOON)
            lines = _whole_lines(err, at)
            at += len(lines)
            for line in lines.splitlines():
                if on_complaint(line.decode("utf-8", "replace").strip()):
                    return

    thread = Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _whole_lines(file: IO[bytes], at: int) -> bytes:
    """What was written from there on; the child, which shares the file's position, goes on writing."""
    text = os.pread(file.fileno(), os.fstat(file.fileno()).st_size - at, at)
    return text[: text.rfind(b"\n") + 1]


def _end(child: subprocess.Popen[bytes]) -> None:
    """Let no child outlive its run, nor what it has begun itself: asked first, so that it can remove its locks."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.stdout is not None:
        child.stdout.close()


def _tail(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    return file.read().decode("utf-8", "replace").strip()
