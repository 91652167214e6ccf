"""The shop under fire: starts it with its real spec, drives it to every boundary, and says what happened and where."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from examples.shop.firing import firing, samples
from examples.shop.recovery import lose_and_recover
from examples.shop.stage import ROOT, Stage, staged
from mahavishnu.errors import MahavishnuError
from mahavishnu.load import load

DEPLOY = ROOT / "examples/shop/deploy"
SPEC = ROOT / "mahavishnu.yaml"


def main() -> None:
    """Run the demo; with `--stay`, leave the shop up until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stay", action="store_true", help="leave the shop up until interrupted")
    stay = parser.parse_args().stay
    spec = load(SPEC).declared
    generate()
    with tempfile.TemporaryDirectory() as folder, staged(Path(folder), spec.service.port) as stage:
        Show(stage).run()
        title("backups.orders: saved, deleted and brought back, in the environment `local`")
        (apart := Path(folder, "recovery")).mkdir()
        lose_and_recover(apart, say)
        if stay:
            _stay(stage)
        shutil.copy(stage.log, log := Path(tempfile.gettempdir(), "mahavishnu-demo.log"))
    say("")
    say(f"The shop's log, a JSON line for each request: {log}")
    say("What was generated from the spec: examples/shop/deploy   The spec: mahavishnu.yaml")


def generate() -> None:
    """Compile the spec: what `mahavishnu generate` prints is part of the show."""
    title("One file says how the shop survives; everything around it is compiled from it")
    say("$ mahavishnu generate --spec mahavishnu.yaml --out examples/shop/deploy")
    command = [
        sys.executable,
        "-m",
        "mahavishnu",
        "generate",
        "--spec",
        "mahavishnu.yaml",
        "--out",
        "examples/shop/deploy",
    ]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise SystemExit("generate failed; see above")


class Show:
    """The acts of the demo, in order, against a running shop."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.http = httpx.Client(base_url=stage.shop, timeout=30)

    def run(self) -> None:
        """All acts."""
        title(f"The shop is up at {self.stage.shop}, its payment service at {self.stage.payment}")
        before, started = self.scrape(), time.monotonic()
        self.burst()
        self.login()
        self.reports()
        self.bodies_and_deadlines()
        self.failing_payment()
        after, took = self.scrape(), time.monotonic() - started
        self.healing_payment()
        self.series(after)
        self.alerts(before, after, took)

    def burst(self) -> None:
        """More requests at once than the burst of `per_client`."""
        title("limits.per_client: 300/minute, 50 at once, counted per client")
        began, answers = time.monotonic(), [self.get("/products", client="203.0.113.1")]
        while answers[-1].status_code == 200 and len(answers) < 1000:
            answers.append(self.get("/products", client="203.0.113.1"))
        took, refused = time.monotonic() - began, answers[-1]
        say(
            f"requests as fast as they go: {tally(answers)}, in {took:.2f} s; 50 and one more for every 0.2 s"
        )
        say(f"the first refusal was request {len(answers)}: {refusal(refused)}")
        say(f"another client meanwhile: {self.get('/products', client='198.51.100.7').status_code}")
        time.sleep(int(refused.headers["retry-after"]))
        say(f"after waiting that Retry-After: {self.get('/products', client='203.0.113.1').status_code}")

    def login(self) -> None:
        """A password being guessed."""
        title("limits.login: 5/minute per address, whatever the address puts into its headers")
        answers = [
            self.post("/login", client="203.0.113.2", headers={"x-real-ip": f"10.9.9.{n}"}) for n in range(7)
        ]
        say(f"7 guesses: {' '.join(str(answer.status_code) for answer in answers)}   {refusal(answers[-1])}")

    def reports(self) -> None:
        """More reports at once than may run and wait."""
        title("limits.reports: 4 at once, 4 more wait up to 500ms")
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(self.report, range(12)))
        say(
            f"12 at once: {tally(answers)}   {refusal(next(one for one in answers if one.status_code == 503))}"
        )

    def bodies_and_deadlines(self) -> None:
        """A body that is too large, and a search that takes too long."""
        title("limits.uploads: 64KiB   limits.search: the response starts within 500ms")
        large = self.post("/login", client="203.0.113.3", content=b"x" * 70_000)
        say(f"a body of 70000 bytes: {large.status_code} {large.json()['detail']}")
        began = time.monotonic()
        slow = self.get("/search", client="203.0.113.3")
        say(f"a search for everything: {slow.status_code} after {time.monotonic() - began:.2f} s")

    def failing_payment(self) -> None:
        """The payment service answers 503: the breaker opens and spares it."""
        title(
            "dependencies.payment: breaker at 50% failures of at least 20 calls; 3 attempts, retry budget 20%"
        )
        self.mood(status=503)
        calls = self.calls()
        answers = [self.order(number) for number in range(40)]
        say(f"the payment service answers 503; 40 orders: {tally(answers)}")
        say(f"it was called {self.calls() - calls} times (40 orders x 3 attempts would be 120)")
        last = answers[-1]
        told = f"{last.status_code} {last.json()}, Mahavishnu-Degraded: {last.headers['mahavishnu-degraded']}"
        say(f"breaker: {self.breaker()}   what the last customer was told: {told}")
        say(f"fallback: dead_letter   orders that are kept to be paid later: {self.waiting()}")

    def healing_payment(self) -> None:
        """The payment service is well again: dead letters are its probes, and each is paid once."""
        kept, charged, began = self.waiting(), self.charged(), time.monotonic()
        self.mood()
        say("the payment service is well again; the dead letters are redriven in the background")
        while self.waiting() and time.monotonic() - began < 60:
            time.sleep(0.2)
        paid, took = self.charged() - charged, time.monotonic() - began
        say(
            f"after {took:.0f} s: {paid} of {kept} kept orders are paid, each once; {self.waiting()} are left"
        )
        say(f"a new order: {self.order(99).status_code}   breaker: {self.breaker()}")

    def series(self, scraped: Mapping[str, float]) -> None:
        """A few of the series that all of this moved, as they were before it was well again."""
        title(f"The same facts as series on {self.stage.shop}/metrics, while the payment service was down")
        for name, value in sorted(scraped.items()):
            if value and re.match(
                r"mahavishnu_(limit_decisions|breaker_state|dependency_calls|retries|dead_letters)", name
            ):
                say(f"  {_short(name):<86}{value:>8.0f}")

    def alerts(self, before: Mapping[str, float], after: Mapping[str, float], took: float) -> None:
        """What Prometheus would make of it, had it gone on for an hour."""
        title("Alerts that would fire if that went on for an hour")
        promtool = _promtool()
        if promtool is None:
            say("NOT EVALUATED: promtool was not found; `make tools` fetches it where the platform allows")
            return
        try:
            (fired,) = firing(promtool, DEPLOY / "prometheus/rules.yml", lasting(before, after, took), [60])
        except MahavishnuError as fault:
            raise SystemExit(str(fault)) from None
        for name in sorted(fired):
            say(f"  {name:<44}  {_label(name)}")

    def get(self, path: str, client: str) -> httpx.Response:
        """A GET by a client behind the proxy that the demo plays."""
        return self.http.get(path, headers={"x-forwarded-for": client})

    def post(
        self, path: str, client: str, content: bytes = b"{}", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """A POST by a client behind the proxy that the demo plays."""
        return self.http.post(path, content=content, headers={"x-forwarded-for": client, **(headers or {})})

    def report(self, number: int) -> httpx.Response:
        """One report, each for a reader of its own."""
        return self.get("/reports", client=f"203.0.113.{20 + number}")

    def order(self, number: int) -> httpx.Response:
        """One order, each by a customer of its own."""
        return self.post("/orders", client=f"192.0.2.{number}")

    def mood(self, **mood: int) -> None:
        """Tell the payment service how to behave."""
        httpx.put(f"{self.stage.payment}/mood", json=mood).raise_for_status()

    def calls(self) -> int:
        """How often the payment service was called."""
        return int(httpx.get(f"{self.stage.payment}/calls").text)

    def charged(self) -> int:
        """How many orders the payment service has charged."""
        return int(httpx.get(f"{self.stage.payment}/charged").text)

    def waiting(self) -> int:
        """How many orders are kept to be paid later: what `mahavishnu dead-letters list` shows."""
        command = [sys.executable, "-m", "mahavishnu", "dead-letters", "list", "--format", "json"]
        told = subprocess.run(command, cwd=ROOT, env=self.stage.environment, check=True, capture_output=True)
        return len(json.loads(told.stdout))

    def scrape(self) -> dict[str, float]:
        """The series of the shop now."""
        return samples(self.http.get("/metrics").text, "shop")

    def breaker(self) -> str:
        """The state of the payment service's breaker."""
        states = {
            name: value
            for name, value in self.scrape().items()
            if name.startswith("mahavishnu_breaker_state")
        }
        return next(name.split('state="')[1].split('"')[0] for name, value in states.items() if value == 1)


def lasting(
    before: Mapping[str, float], after: Mapping[str, float], took: float
) -> dict[str, list[float | None]]:
    """Every series for an hour, growing as it grew between two scrapes; gauges keep the level of the second."""
    return {name: _hour(name, before.get(name, 0.0), value, took) for name, value in after.items()}


def _hour(name: str, before: float, after: float, took: float) -> list[float | None]:
    counts = re.match(r"\w+_(total|bucket|count|sum)\{", name) is not None
    growth = (after - before) * 60 / took if counts else 0.0
    return [after + growth * minute for minute in range(61)]


def tally(answers: list[httpx.Response]) -> str:
    """`50 x 200, 5 x 429`."""
    return ", ".join(
        f"{count} x {status}" for status, count in sorted(Counter(a.status_code for a in answers).items())
    )


def refusal(answer: httpx.Response) -> str:
    """What a refused client is told."""
    return f"{answer.status_code} Retry-After {answer.headers.get('retry-after', '-')} s: {answer.json()['detail']}"


def title(text: str) -> None:
    """A heading."""
    say(f"\n== {text}")


def say(text: str) -> None:
    """A line for the person who watches."""
    print(text, flush=True)


def _short(name: str) -> str:
    return name.replace('job="shop",instance="app",', "")


def _promtool() -> Path | None:
    found = shutil.which(
        "promtool", path=f"{ROOT / '.tools/bin'}:{Path(sys.executable).parent}"
    ) or shutil.which("promtool")
    return Path(found) if found else None


def _label(alert: str) -> str:
    rules = (DEPLOY / "prometheus/rules.yml").read_text()
    found = re.search(rf"alert: '?{alert}'?\n(?:.*\n)*?.*severity: '?(P[1-4])", rules)
    return found[1] if found else ""


def _stay(stage: Stage) -> None:
    say(f"\nThe shop stays up at {stage.shop}; Ctrl-C ends it.")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say("")


if __name__ == "__main__":
    main()
