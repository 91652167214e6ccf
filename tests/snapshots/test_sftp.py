"""Where ssh goes for a repository, and what is refused before it does."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mahavishnu.policies.backup import Backup
from mahavishnu.snapshots.sftp import Server, server

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDHaIl7bkKynPbQ4KYuFHFnSCHlShVq0L4ta+Vx0w8zl"


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("sftp:me@vault:/srv/a", Server("me", "vault", 22)),
        ("sftp:vault:a", Server("", "vault", 22)),
        ("sftp://me@vault//srv/a", Server("me", "vault", 22)),
        ("sftp://me%40home@vault.example.org:2222/a", Server("me@home", "vault.example.org", 2222)),
        ("sftp://[::1]:23/a", Server("", "::1", 23)),
        ("s3:https://vault/a", None),
        ("/mnt/sftp", None),
    ],
)
def test_the_server_of_a_repository(place: str, found: Server | None) -> None:
    """In both forms that restic takes."""
    assert server(place) == found


def said(to: str | list[str], *known_hosts: str) -> dict[str, Any]:
    """A backup there; with these lines, where there are any."""
    ssh = {"ssh": {"key": "${KEY}", "known_hosts": known_hosts}} if known_hosts else {}
    common = {"source": {"sqlite": "a.db"}, "password": "${KEY}", "schedule": "0 2 * * *", "rpo": "25h"}
    return {**common, "to": to, **ssh}


@pytest.mark.parametrize(
    ("backup", "why"),
    [
        (said("sftp://me@vault:70000/a"), "a port that cannot be"),
        (said("/mnt/a", f"vault {KEY}"), "no repository is reached by it"),
        (said("sftp:me@vault:/a", f"safe {KEY}"), "holds no key of vault"),
        (said("sftp://me@vault:2222/a", f"vault {KEY}"), r"holds no key of \[vault\]:2222"),
        (said(["sftp:me@safe:/a", "sftp:me@vault:/a"], f"safe {KEY}"), "holds no key of vault"),
        (said("sftp:me@vault:/a", f"vault {KEY} -oProxyCommand=id"), "String should match"),
        (said("sftp:me@vault:/a", "vault"), "String should match"),
    ],
)
def test_what_would_fail_at_night_is_refused(backup: dict[str, Any], why: str) -> None:
    """And what has nothing to do with it."""
    with pytest.raises(ValidationError, match=why):
        Backup.model_validate(backup)


@pytest.mark.parametrize(
    "backup",
    [
        said("sftp:me@vault:/a"),
        said("sftp:me@vault:/a", f"10.0.0.1,vault {KEY}"),
        said(["sftp://me@vault:2222/a", "/mnt/a"], f"[vault]:2222 {KEY}"),
        said("sftp:${PLACE}", f"vault {KEY}"),
    ],
)
def test_what_can_be_is_not(backup: dict[str, Any]) -> None:
    """Without keys of its own, with them, and where a secret says the place."""
    Backup.model_validate(backup)
