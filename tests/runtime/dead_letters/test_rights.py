"""What the manual says that a restricted user of the letters' server needs is enough, and none of it is too much."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mahavishnu.runtime.dead_letters.letters import LettersUnreachable
from mahavishnu.runtime.dead_letters.redis import RedisLetters
from tests.runtime.dead_letters.letterboxes import keep, letter, take
from tests.runtime.redis.servers import Server, server

ROOT = Path(__file__).resolve().parents[3]


def _rights() -> tuple[str, ...]:
    text = (ROOT / "docs/dead-letters.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"`(~\{mahavishnu:shop:letters\}\*[^`]*)`", " ".join(text.split()))
    return tuple(said.split(" "))


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with server() as one:
        yield one


def _as(running: Server, *rights: str, whose: str = "shop") -> RedisLetters:
    """The letters for a new user, on a server that knows no script."""
    with running.client() as client:
        client.flushall()
        client.script_flush()
        client.execute_command("ACL", "SETUSER", "few", "reset", "on", ">pw", *rights)
    return RedisLetters(running.url.replace("//", "//few:pw@"), whose)


def _all_that_is_done(letters: RedisLetters) -> None:
    """With four letters, in each of the ways that a letter may go."""
    for key in ("a", "b", "c", "d"):
        keep(letters, letter(key))
    first, second, *_ = take(letters)
    letters.renew([first, second], 60_000)
    letters.back(first, 0, "no", attempted=True, quarantine=True)
    letters.back(second, 0, "no", attempted=False)
    assert letters.redrive([first.id]) == 1
    letters.done(second)
    assert letters.drop([first.id]) == 1
    assert letters.stats().entries == len(letters.some(9)) == 2
    letters.prune(0)


def test_a_user_with_the_rights_that_the_manual_lists_can_do_all_that_is_needed(running: Server) -> None:
    letters = _as(running, *_rights())
    _all_that_is_done(letters)
    letters.close()


@pytest.mark.parametrize("given", ["shop", "shop@staging"])
@pytest.mark.parametrize("whose", ["shop", "shop@staging", "shop_two"])
def test_the_rights_of_an_environment_are_none_in_another(running: Server, given: str, whose: str) -> None:
    """Nor those of the service without one; the manual has the pattern of each."""
    pattern = f"~{{mahavishnu:{given}:letters}}*"
    assert f"`{pattern}" in (ROOT / "docs/dead-letters.md").read_text(encoding="utf-8")
    letters = _as(running, pattern, *_rights()[1:], whose=whose)
    if given == whose:
        _all_that_is_done(letters)
    else:
        with pytest.raises(LettersUnreachable, match=r"NOPERM|permission"):
            _all_that_is_done(letters)
    letters.close()


@pytest.mark.parametrize("missing", [right for right in _rights() if right.startswith("+")])
def test_each_of_them_is_needed_and_told_of_in_the_servers_words(running: Server, missing: str) -> None:
    letters = _as(running, *(right for right in _rights() if right != missing))
    with pytest.raises(LettersUnreachable, match=r"NOPERM|can't run this command|ACL failure|permission"):
        _all_that_is_done(letters)
    letters.close()
