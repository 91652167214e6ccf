"""The commands that pages tell people to type: each names only what the other generators write."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from mahavishnu.contract import Contract
from mahavishnu.derived.forgetting import FILES, kept
from mahavishnu.derived.lookback import step
from mahavishnu.promql import Expr, quoted
from mahavishnu.signals import Severity
from mahavishnu.units import MINUTE, SECOND, Duration

from ._command import Command
from ._places import targets
from ._service import app_secrets, host, jobs_secrets, sidecar_secrets

# Where it is asked unless whoever types it says otherwise.
_PROMETHEUS = "${PROMETHEUS:-http://127.0.0.1:9090}"
_ALERTMANAGER = "${ALERTMANAGER:-http://127.0.0.1:9093}"


def ask(expr: Expr) -> str:
    """Ask Prometheus for the value of a query now."""
    return f'curl -fsSG "{_PROMETHEUS}/api/v1/query" --data-urlencode {shlex.quote(f"query={expr.render()}")}'


def ask_back(expr: Expr, long: Duration) -> str:
    """Ask Prometheus for the values of a query since then."""
    asked = (
        shlex.quote(f"query={expr.render()}"),
        f'"start=$(($(date +%s) - {long // SECOND}))"',
        '"end=$(date +%s)"',
        f"step={step(long) // SECOND}",
    )
    words = " ".join(f"--data-urlencode {one}" for one in asked)
    return f'curl -fsSG "{_PROMETHEUS}/api/v1/query_range" {words}'


def firing() -> str:
    """Ask Prometheus which alerts there are."""
    return f'curl -fsS "{_PROMETHEUS}/api/v1/alerts"'


def get(contract: Contract, path: str, *options: str) -> str:
    """Ask the service itself."""
    words = "".join(f"{one} " for one in options)
    return f'curl -fsS {words}"{_service(contract)}{path}"'


def _service(contract: Contract) -> str:
    return f"${{SERVICE:-http://127.0.0.1:{contract.spec.service.port}}}"


def refused(contract: Contract) -> Iterator[Command]:
    """Whom the limits refuse most, where operators may ask."""
    if ops := contract.spec.ops:
        token = f'-H "Authorization: Bearer {ops.token}"'
        yield Command("Whom the limits refuse most", get(contract, f"{ops.path}/refused", token))


def verbs(contract: Contract, *words: str) -> str:
    """A verb of our own command line, for the spec and the environment that were compiled."""
    return shlex.join(["mahavishnu", *words, *contract.options])


def running(contract: Contract) -> str:
    """Compare the spec with the service, its Prometheus and its Alertmanager."""
    words = (
        f'mahavishnu diff --live "{_service(contract)}"',
        f'--prometheus "{_PROMETHEUS}"',
        f'--alertmanager "{_ALERTMANAGER}"',
        shlex.join(contract.options),
    )
    return " ".join(words).rstrip()


def letters(contract: Contract) -> list[Command]:
    """What is kept as dead letters, seen from where they lie."""
    apart = contract.spec.dead_letters.file is not None and contract.spec.deploy.replicas.max > 1
    purpose = "Which calls are kept, and why they failed" + (", in one replica of several" if apart else "")
    return _where_letters_lie(contract, purpose, "list")


def redriven(contract: Contract) -> list[Command]:
    """Let all of them try anew."""
    return _where_letters_lie(contract, "Let all of them try anew", "redrive", "--all")


def _where_letters_lie(contract: Contract, purpose: str, *words: str) -> list[Command]:
    places = targets(contract)
    inside = [
        one
        for place in places
        for one in place.titled(Command(purpose, place.inside(["mahavishnu", "dead-letters", *words])))
    ]
    return inside or [Command(f"{purpose}; where the service runs", verbs(contract, "dead-letters", *words))]


def wanted(contract: Contract) -> list[str]:
    """The variables that Compose wants to have, whatever it is asked to do."""
    spec = contract.spec
    if spec.deploy.targets.compose is None:
        return []
    files = (jobs_secrets(spec), *sidecar_secrets(spec).values())
    return [*app_secrets(spec), *(["SECRETS_DIR"] if any(files) else [])]


def silence(alert: str) -> str:
    """Hold one alert back for a while."""
    return _silence("1h", f"alertname={quoted(alert)}")


def silence_all(contract: Contract) -> str:
    """Hold back every alert of the service, and not its heartbeat."""
    return _silence("2h", f"service={quoted(contract.job)}", f'severity=~"{"|".join(Severity)}"')


def _silence(hold: str, *matchers: str) -> str:
    made = f'amtool --alertmanager.url "{_ALERTMANAGER}" silence add {shlex.join(matchers)}'
    return f'SILENCE=$({made} --duration {hold} --comment "being worked on") && echo "$SILENCE"'


def unsilence() -> str:
    """End what has been begun in the same shell."""
    return f'amtool --alertmanager.url "{_ALERTMANAGER}" silence expire "$SILENCE"'


def silences() -> str:
    """What is held back."""
    return f'amtool --alertmanager.url "{_ALERTMANAGER}" silence query'


def keepers(contract: Contract) -> Iterator[tuple[str, list[Command]]]:
    """Each place that keeps the log, with how it is told to forget, and how one sees that it does."""
    for place, one in kept(contract.spec).items():
        put, seen = _KEEPERS[place]
        file = f"{contract.place}/{FILES[place]}"
        values = {"file": file, "name": host(contract), "minutes": one.limit // MINUTE}
        told = Command("Put it to work", put.format(**values))
        yield place, [*([told] if put else []), Command("See that it is at work", seen.format(**values))]


_PUT = "curl -fsS -X PUT -H 'Content-Type: application/json' --data @{{file}} \"{url}\""
_ELASTIC = "${{ELASTICSEARCH:-http://127.0.0.1:9200}}/_ilm/policy/{name}-logs"
_OPEN = "${{OPENSEARCH:-http://127.0.0.1:9200}}/_plugins/_ism/policies/{name}-logs"
_KEEPERS = {
    "journald": (
        (
            "sudo install -D -m 644 {file} /etc/systemd/journald.conf.d/{name}.conf"
            " && sudo systemctl restart systemd-journald"
        ),
        "sudo journalctl --quiet --output=short-iso | head -n 1   # the oldest line there is",
    ),
    "files": (
        "sudo install -D -m 644 {file} /etc/{name}/logrotate.conf",
        "find /var/log/{name} -type f -mmin +{minutes}   # nothing is that old",
    ),
    "loki": (
        "",
        (
            'curl -fsS "${{LOKI:-http://127.0.0.1:3100}}/config"'
            ' | grep -E "^ *(retention_(enabled|period)|max_chunk_age):"'
        ),
    ),
    "elasticsearch": (_PUT.format(url=_ELASTIC), f'curl -fsS "{_ELASTIC}?filter_path=*.in_use_by"'),
    "opensearch": (
        _PUT.format(url=_OPEN),
        'curl -fsS "${{OPENSEARCH:-http://127.0.0.1:9200}}/_plugins/_ism/explain/*"',
    ),
}
