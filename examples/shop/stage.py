"""Starts the shop and its payment service under uvicorn, and stops them again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Stage:
    """Where the two services answer, where the shop's log is, and what its environment says."""

    shop: str
    payment: str
    log: Path
    environment: Mapping[str, str]


@contextmanager
def staged(
    folder: Path, port: int, spec: Path = ROOT / "mahavishnu.yaml", workers: int = 1
) -> Generator[Stage]:
    """Both services, ready; stopped when the block ends. Where `port` is taken the shop gets a free one."""
    shop = f"http://127.0.0.1:{port if _free(port) else _any_port()}"
    payment = f"http://127.0.0.1:{_any_port()}"
    said = {
        # What the spec says of production, this machine overrides through the environment: the payment service is
        # on loopback, and the demo plays the trusted proxy in front of several clients.
        "MAHAVISHNU_DEPENDENCIES__PAYMENT__URL": payment,
        "MAHAVISHNU_SERVICE__TRUSTED_PROXIES": '["127.0.0.1/32", "10.0.0.0/8"]',
        # One process keeps its dead letters in a file, and the demo does not wait for a minute.
        "MAHAVISHNU_DEAD_LETTERS__STORE": f"sqlite:{folder}/letters/dead_letters.db",
        "MAHAVISHNU_DEAD_LETTERS__REDRIVE__BASE": "2s",
        "MAHAVISHNU_SPEC": str(spec),
    }
    stage = Stage(shop, payment, folder / "shop.log", {**os.environ, **said})
    with (
        _server("examples.shop.payment:app", stage.payment, ROOT, folder / "payment.log", {}, "/calls"),
        _server("shop.main:app", stage.shop, ROOT / "examples", stage.log, said, "/readyz", workers),
    ):
        yield stage


@contextmanager
def _server(
    app: str, url: str, app_dir: Path, log: Path, said: Mapping[str, str], ready: str, workers: int = 1
) -> Generator[None]:
    port = url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "uvicorn", app, "--port", port, "--app-dir", str(app_dir)]
    command += ["--workers", str(workers)] if workers > 1 else []
    quiet = ["--no-access-log", "--log-level", "warning", "--no-proxy-headers"]
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, *quiet], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **said}
        )
        try:
            _wait(process, url + ready, log)
            yield
        finally:
            process.terminate()
            process.wait(10)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"the server did not start:\n{log.read_text()}")
        try:
            if httpx.get(url, timeout=1).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"{url} does not answer:\n{log.read_text()}")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
