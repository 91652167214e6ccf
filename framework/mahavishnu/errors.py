"""What goes wrong, said for people: findings about a file, and the exceptions that carry them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Path = tuple[str | int, ...]


class Level(StrEnum):
    """How bad a finding is: an error stops the work, a warning does not (unless `--strict`)."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file: 1-based line and column, the width of the token, and the text of its line."""

    file: str
    line: int
    column: int
    width: int = 1
    text: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """What a check found, at a path of the spec; the loader turns it into a `Finding` with a position."""

    code: str
    path: Path
    what: str
    help: str = ""
    severity: Level = Level.ERROR
    on_key: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault for a person: severity, stable code, what, where (None: no place in a file), help."""

    severity: Level
    code: str
    what: str
    where: Where | None = None
    help: str = ""


class MahavishnuError(Exception):
    """Base of every error this package raises on purpose; `str(error)` is a sentence for people."""


class SpecError(MahavishnuError):
    """The spec cannot be used; `findings` says why, all faults of one run together."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        super().__init__("\n".join(_line(finding) for finding in findings))

    def __reduce__(self) -> tuple[type[SpecError], tuple[tuple[Finding, ...]]]:
        """So that it can cross to another process."""
        return type(self), (self.findings,)


class DependencyError(MahavishnuError):
    """A policy of a dependency refused or ended a call.

    Attributes: `dependency` and `policy` name who did, `place` where that stands in the spec, like
    `dependencies.stripe.breaker`, and `where` its file and line (empty for a spec that came from no file);
    `what` says why, `retry_after` is in exact ns (None: nobody knows).
    """

    def __init__(
        self, dependency: str, policy: str, what: str, retry_after: int | None = None, where: str = ""
    ) -> None:
        super().__init__(f"dependency `{dependency}`: {what}")
        self.dependency = dependency
        self.policy = policy
        self.place = f"dependencies.{dependency}.{policy}"
        self.what = what
        self.retry_after = retry_after
        self.where = where

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        return f"dependency `{self.dependency}`: {self.what}{where}"

    def __reduce__(self) -> tuple[type[DependencyError], tuple[object, ...]]:
        """So that it can cross to another process."""
        return type(self), self.said

    @property
    def said(self) -> tuple[object, ...]:
        """What it was made of, to make another one of it."""
        return self.dependency, self.policy, self.what, self.retry_after, self.where


class _NotCalled(DependencyError):
    """A call that was not made; who asked may learn when it could be."""

    def __str__(self) -> str:
        again = "" if self.retry_after is None else f"; retry in {max(1, -(-self.retry_after // 10**9))} s"
        return super().__str__() + again


class BreakerOpen(_NotCalled):
    """The breaker is open, or half open with every probe taken: the dependency was not called."""


class Throttled(_NotCalled):
    """The dependency refuses too much of what it is asked, so a part of it is not even sent: it was not called."""


class BulkheadFull(_NotCalled):
    """No place became free in the bulkhead within its `wait`: the dependency was not called."""


class CallTimeout(DependencyError, TimeoutError):
    """One attempt did not end within the dependency's `timeout`, or within what was left for it."""


class BadAnswer(DependencyError):
    """The dependency answered, and the answer is a failure; `response` is it."""

    def __init__(self, dependency: str, response: object, status: int) -> None:
        what = f"it answered {status}" if status else "it answered, and the answer is a failure"
        super().__init__(dependency, "answer", what)
        self.response = response
        self.status = status

    @property
    def said(self) -> tuple[object, ...]:
        return self.dependency, self.response, self.status


class Parked(DependencyError):
    """The call failed, and is kept as a dead letter: it will be made again, and must not be repeated now.

    Attributes: `letter` is the id it is kept under, `key` its idempotency key; the failure itself is its `__cause__`.
    """

    def __init__(
        self,
        dependency: str,
        policy: str,
        what: str,
        retry_after: int | None = None,
        where: str = "",
        letter: str = "",
        key: str = "",
    ) -> None:
        super().__init__(dependency, policy, what, retry_after, where)
        self.letter = letter
        self.key = key

    @property
    def said(self) -> tuple[object, ...]:
        return (*super().said, self.letter, self.key)


class RateLimited(MahavishnuError):
    """A limit of the spec refused a call of a tool.

    Attributes: `limit` is its name and `place` where it stands, like `limits.search`; `what` says why, `retry_after`
    is in exact ns (None: waiting does not help), `status` is the answer where the call was part of an HTTP request.
    """

    def __init__(self, limit: str, what: str, retry_after: int | None, status: int = 429) -> None:
        super().__init__(f"{what} (limits.{limit})")
        self.limit = limit
        self.place = f"limits.{limit}"
        self.what = what
        self.retry_after = retry_after
        self.status = status

    def __reduce__(self) -> tuple[type[RateLimited], tuple[str, str, int | None, int]]:
        """So that it can cross to another process."""
        return type(self), (self.limit, self.what, self.retry_after, self.status)


def _line(finding: Finding) -> str:
    place = f"{finding.where.file}:{finding.where.line}:{finding.where.column}: " if finding.where else ""
    advice = f" (help: {finding.help})" if finding.help else ""
    return f"{place}{finding.severity}[{finding.code}]: {finding.what}{advice}"
