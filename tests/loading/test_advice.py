"""What is advised for the commonest mistakes in YAML and units: what was meant, at the place where it went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from mahavishnu import cli
from mahavishnu.cli._output import full
from mahavishnu.errors import Finding, SpecError
from mahavishnu.load import load
from mahavishnu.units import Duration

BASE = "mahavishnu: 1\nservice: {name: shop, app: shop.main:app}\n"


def written(folder: Path, text: str) -> Path:
    """A spec with this text behind the base, whose first line there is line 3."""
    path = folder / "mahavishnu.yaml"
    path.write_text(BASE + text, encoding="utf-8")
    return path


def refused(folder: Path, text: str) -> tuple[Finding, ...]:
    """The findings about such a spec."""
    with pytest.raises(SpecError) as stopped:
        load(written(folder, text))
    return stopped.value.findings


def only(folder: Path, text: str) -> Finding:
    (finding,) = refused(folder, text)
    return finding


def place(finding: Finding) -> tuple[int, int]:
    assert finding.where is not None
    return finding.where.line, finding.where.column


# --- units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "help"),
    [
        ("2000", "its unit is missing: `2000ms` or `2000s`?"),
        ("500", "its unit is missing: `500ms` or `500s`?"),
        ("5000000", "its unit is missing: `5000000ms` or `5000000s`?"),
        ("30", "write a duration with its unit, like `30s`"),
        ("1.5s", "write `1500ms`"),
        ("0.25h", "write `15m`"),
        ("1.5h", "write `90m`"),
        ('"1m 30s"', "write `1m30s`"),
        ("60 s", "write `60s`"),
        ("10sec", "write `10s`"),
        ("2 minutes", "write `2m`"),
        ("250 millis", "write `250ms`"),
        ('"1h, 5min"', "write `1h5m`"),
        ("soon", "write a duration with its unit, like `2s`"),
        ("1:30", "write a duration with its unit, like `2s`"),
        ("1.0000001s", "write a duration with its unit, like `2s`"),
        ("0.0s", "write a duration with its unit, like `2s`"),
        ("99999999999999 d", "write a duration with its unit, like `2s`"),
    ],
)
def test_a_duration_is_advised_as_it_was_meant(tmp_path: Path, said: str, help: str) -> None:
    """Elsewhere a bare number is often one of milliseconds; a fraction has a shorter unit."""
    assert only(tmp_path, f"limits: {{a: {{timeout: {said}}}}}\n").help == help


@pytest.mark.parametrize("said", ["1.5s", "1m 30s", "10sec"])
def test_what_has_its_unit_is_not_said_to_lack_it(tmp_path: Path, said: str) -> None:
    """The sentence says how a duration is written."""
    what = only(tmp_path, f"limits: {{a: {{timeout: {said}}}}}\n").what
    assert what.startswith(f"`{said}` is not a duration as one is written: whole numbers")


def test_where_days_are_usual_a_bare_number_is_one_of_days(tmp_path: Path) -> None:
    """Whatever it is."""
    for number in (45, 400):
        assert only(tmp_path, f"retention: {{metrics: {number}}}\n").help.endswith(f"like `{number}d`")


def test_every_advised_duration_can_be_read() -> None:
    """As exactly what was written."""
    read = {text: Duration.parse(Duration.fix(text)) for text in ("1.5s", "1m 30s", "0.5 days", "2 hours")}
    assert {text: float(one.seconds) for text, one in read.items()} == {
        "1.5s": 1.5,
        "1m 30s": 90,
        "0.5 days": 43200,
        "2 hours": 7200,
    }


# --- YAML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("limits:\n  a: &d {rate: 5/minute, mode: observe}\n  b:\n    <<: *d\n    burst: 9\n", (6, 5)),
        ("limits: {a: &d {rate: 5/minute}, b: {<<: *d, rate: 9/minute}}\n", (3, 38)),
        ("deploy:\n  <<: {replicas: {min: 2}}\n", (4, 3)),
        ("limits:\n  <<: {a: {rate: 5/minute}}\n", (4, 3)),
        ("slos: {a: {<<: {objective: 99%}}}\n", (3, 12)),
    ],
)
def test_a_merge_key_is_named(tmp_path: Path, text: str, where: tuple[int, int]) -> None:
    """It is none of the format; what it would have brought is not missed by itself."""
    finding = only(tmp_path, text)
    assert (finding.code, place(finding)) == ("MV101", where)
    assert finding.what.endswith("merges nothing: a spec has no merge keys")
    assert finding.help.startswith("write the keys out")


def test_data_of_the_users_own_may_have_such_a_key(tmp_path: Path) -> None:
    """What stands in for an answer is JSON of any kind."""
    path = tmp_path / "mahavishnu.yaml"
    path.write_text(BASE + 'dependencies: {a: {fallback: {static: {"<<": 1}}}}\n', encoding="utf-8")
    assert load(path).spec.dependencies["a"].fallback is not None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('channels:\n  room: {slack: "${S}", channel: #shop}\nslos:\n  a: {objective: 99%}\n', (4, 34)),
        ('channels:\n  room: {slack: "${S}", channel: #shop}\n', (4, 34)),
        ('channels:\n  room: {slack: "a #b}", channel: #shop}\n', (4, 35)),
        ("backups: {a: {to: [b, #c]}}\n", (3, 23)),
        ("limits:\n  a: {rate: 5/minute,\n    match: {path: #x}}\nslos: {}\n", (5, 19)),
    ],
)
def test_a_comment_that_hides_a_bracket_is_told_where_it_begins(
    tmp_path: Path, text: str, where: tuple[int, int]
) -> None:
    """Not where the next section stands, or behind the last line."""
    finding = only(tmp_path, text)
    assert (finding.code, place(finding)) == ("MV004", where)
    assert finding.what == "this is not YAML: ` #` begins a comment, which hides a bracket"
    assert finding.help == "put a text that begins with `#` in quotes"


def test_a_comment_that_hides_a_value_is_told(tmp_path: Path) -> None:
    """The value is empty, and the line does not look like it."""
    finding = only(tmp_path, 'secrets: [S]\nchannels:\n  room:\n    slack: "${S}"\n    channel: #shop\n')
    assert (finding.what, finding.help) == (
        "`channels.room.channel` is empty",
        "` #` begins a comment: put a text that begins with `#` in quotes",
    )
    finding = only(tmp_path, "service2:  # later\n")
    assert "comment" not in finding.help


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quote_that_is_not_closed_is_told_where_it_opens(tmp_path: Path, quote: str) -> None:
    """Not at the end of the file."""
    finding = only(tmp_path, f"limits:\n  a: {{rate: {quote}300/minute, per: ip}}\n  b: {{rate: 5/minute}}\n")
    assert (finding.code, place(finding)) == ("MV004", (4, 13))
    assert (finding.what, finding.help) == (
        "this is not YAML: a quote that is never closed",
        "close the quote",
    )


def test_a_bracket_that_is_not_closed_is_named(tmp_path: Path) -> None:
    """With its line, as the caret stands behind what it holds."""
    finding = only(tmp_path, "limits:\n  a: {rate: 300/minute\n  b: {rate: 5/minute}\n")
    assert (finding.code, place(finding)) == ("MV004", (5, 4))
    assert finding.help == "the `{` of line 4 is not closed, or a comma is missing"


@pytest.mark.parametrize(
    ("text", "where", "help"),
    [
        ("limits:\n  a:\n    rate:\t300/minute\n", (5, 10), "write a space in its place"),
        ("secrets:\n  -\tKEY\n", (4, 4), "write a space in its place"),
        ("limits: {}\t# none\n", (3, 11), "write a space in its place"),
        ("limits:\n\ta: {rate: 300/minute}\n", (4, 1), "indent with spaces"),
        ("limits:\n  a:\n  \trate: 300/minute\n", (5, 3), "indent with spaces"),
    ],
)
def test_a_tab_is_named(tmp_path: Path, text: str, where: tuple[int, int], help: str) -> None:
    """On a screen it looks like spaces, and what YAML says of it depends on where it stands."""
    finding = only(tmp_path, text)
    assert (finding.code, place(finding), finding.help) == ("MV004", where, help)
    assert finding.what == "a tab stands here; a spec is read with spaces only"


@pytest.mark.parametrize(
    ("text", "token"),
    [
        ("limits: {a: {rate: 5/minute, match: {path: /orders/{id}}}}\n", "/orders/{id}"),
        ("limits: {a: {rate: 5/minute, match: {path: /orders/{id}/items/{item}, method: GET}}}\n", None),
        ("limits: {a: {rate: 5/minute, match: {path: {id}/x}}}\n", "{id}/x"),
        ("limits:\n  a: {match: {path: /x[1]}, rate: 5/minute}\n", "/x[1]"),
        ("secrets: [HOOK]\nchannels: {a: {slack: ${HOOK}, channel: '#x'}}\n", "${HOOK}"),
        ("limits:\n  a:\n    rate: 5/minute\n    match:\n      path: {id}/x\n", "{id}/x"),
    ],
)
def test_a_text_with_a_bracket_in_it_is_said_to_need_quotes(
    tmp_path: Path, text: str, token: str | None
) -> None:
    """Nothing is unclosed there: within `{}` a bracket begins a value of its own."""
    token = token or "/orders/{id}/items/{item}"
    finding = only(tmp_path, text)
    assert finding.where is not None
    assert finding.help == 'put a text with `{` or `[` in it in quotes, like `"/orders/{id}"`'
    line = (BASE + text).splitlines()[finding.where.line - 1]
    assert line[finding.where.column - 1 :][: finding.where.width] == token
    load(written(tmp_path, text.replace(token, f'"{token}"').replace("{id}/x", "/{id}/x")))


@pytest.mark.parametrize(
    "text",
    [
        "limits: {a: {rate: 5/minute} b: {rate: 5/minute}}\n",
        "limits: {a: {rate: 5/minute}b: {rate: 5/minute}}\n",
        "limits: {a: {rate: 5/minute, match: {path: /orders/{id}}\n",
    ],
)
def test_a_bracket_that_is_missing_is_not_said_to_be_text(tmp_path: Path, text: str) -> None:
    """A comma, or the end of what was opened, is what lacks; the last one has both faults, and hears of one."""
    said = "in quotes" in only(tmp_path, text).help
    assert said == ("/orders/" in text)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("limits: {a: {rate: 5/minute, match: {tool: *}}}\n", '"*"'),
        ("limits:\n  a:\n    rate: 5/minute\n    match:\n      tool: *\n", '"*"'),
    ],
)
def test_a_star_is_no_alias(tmp_path: Path, text: str, right: str) -> None:
    """It stands for every tool, in quotes."""
    assert only(tmp_path, text).help == f"put a text that begins with `*` in quotes, like `{right}`"
    load(written(tmp_path, text.replace("*", right)))


def test_a_text_that_begins_with_a_star_is_no_alias(tmp_path: Path) -> None:
    """Nobody has anchored what it would be."""
    finding = only(tmp_path, "limits: {a: {rate: 5/minute, match: {tool: *search}}}\n")
    assert finding.help == "write the value out, or put it in quotes where it is a text that begins with `*`"


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "name"),
    [("naïve", "naive"), ("Größe", "grosse"), ("per-client", "per_client"), ("shöp", "shop")],
)
def test_a_name_is_advised_by_the_letters_without_their_marks(tmp_path: Path, said: str, name: str) -> None:
    """As its owner would write it."""
    assert only(tmp_path, f"limits: {{{said}: {{rate: 5/minute}}}}\n").help == f"write `{name}`"


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("deploy: {rpo: 25h}\n", "`rpo` belongs under `backups.<name>`"),
        ('deploy: {retry: {attempts: "3"}}\n', "`retry` belongs under `dependencies.<name>`"),
        ("security: {credentials: true}\n", "`credentials` belongs under `security.cors`"),
        (
            'secrets: [AWS_KEY]\nsecurity: {credentials: ["${AWS_KEY}"]}\n',
            "`credentials` belongs under `backups.<name>`",
        ),
    ],
)
def test_a_key_is_sent_where_its_value_fits(tmp_path: Path, text: str, help: str) -> None:
    """Of several such places to the one; what is wrong within the value is another finding."""
    assert only(tmp_path, text).help == help


@pytest.mark.parametrize(
    "text",
    [
        "deploy: {rpo: true}\n",
        "deploy: {retry: 3}\n",
        "security: {credentials: 5}\n",
        "deploy: {rpo: [25h]}\n",
    ],
)
def test_a_key_is_not_sent_where_its_value_would_be_refused(tmp_path: Path, text: str) -> None:
    """Whoever followed that would only be told of the next mistake: another thing is meant there."""
    finding = only(tmp_path, text)
    assert (finding.code, "belongs under" in finding.help) == ("MV101", False)
    assert finding.help


@pytest.mark.parametrize(
    ("text", "help"),
    [
        ("limits: {a: {concurrency: 5, burst: 3}}\n", "`burst` goes with `rate`"),
        ("limits: {a: {timeout: 5s, per: client}}\n", "`per` goes with `rate`"),
        ("limits: {a: {rate: 5/minute, queue: 3}}\n", "`queue` goes with `concurrency`"),
    ],
)
def test_a_key_of_another_kind_of_entry_is_told_its_kind(tmp_path: Path, text: str, help: str) -> None:
    """Not the place in which it stands already."""
    assert only(tmp_path, text).help == help


def test_a_word_with_a_neighbour_of_nearly_the_same_name_is_told_of_it(tmp_path: Path) -> None:
    """Where that one takes what stands here."""
    assert only(tmp_path, "environment: {staging: {}}\n").help == "did you mean `environments`?"
    assert "environments" not in only(tmp_path, "environment: [staging]\n").help


def test_a_whole_number_is_advised_however_it_is_written(tmp_path: Path) -> None:
    """Not by the digit that it happens to begin with."""
    for said in ("1e3", "1000.0", "1_000"):
        finding = only(tmp_path, f"limits: {{a: {{rate: 5/minute, burst: {said}}}}}\n")
        assert finding.help == "write a whole number, like `1000`"


def test_a_list_is_advised_that_is_accepted(tmp_path: Path) -> None:
    """With what stands there, if it may stand in the list, as YAML reads it; else with what may."""
    advised = {
        text: only(tmp_path, f"security: {{cors: {{origins: {text}}}}}\n").help
        for text in ('"*"', "https://a.example.com", "{a: b}")
    }
    assert advised == {
        '"*"': "write `[https://shop.example.com]`",
        "https://a.example.com": "write `[https://a.example.com]`",
        "{a: b}": "write `[https://shop.example.com]`",
    }
    assert only(tmp_path, "limits: {a: {rate: 5/minute, match: {tool: [a, b]}}}\n").help == ""


def test_a_name_of_a_secret_in_small_letters_is_advised_in_large_ones(tmp_path: Path) -> None:
    """At both places, and the second advice does not say what is written already."""
    text = 'secrets: [slack_webhook]\nchannels: {a: {slack: "${slack_webhook}", channel: "#x"}}\n'
    assert [one.help for one in refused(tmp_path, text)] == [
        "write `SLACK_WEBHOOK`",
        'write `"${SLACK_WEBHOOK}"` and list `SLACK_WEBHOOK` in `secrets`',
    ]
    load(written(tmp_path, text.replace("slack_webhook", "SLACK_WEBHOOK")))


def test_a_variable_is_advised_by_what_it_is_called_after_the_prefix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them begin with that, so it makes none like another."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "limits: {per_client: {rate: 5/minute}}\n")
    for name in ("MAHAVISHNU_LIMITS", "MAHAVISHNU_DEBUG"):
        monkeypatch.setenv(name, "1")
        assert cli.run(["config"]) == 1
        assert "did you mean" not in capsys.readouterr().err
        monkeypatch.delenv(name)


def test_an_option_is_advised_as_an_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the words it was said in; a variable is advised as a variable."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mahavishnu.yaml").write_text(BASE + "limits: {per_client: {rate: 5/minute}}\n")
    assert cli.run(["config", "--set", "limits.per_clent.rate=5/minute"]) == 1
    assert "did you mean `limits.per_client.rate`?" in capsys.readouterr().err
    assert cli.run(["config", "--set", "nothing=5"]) == 1
    assert "no key of the spec has this name\n" in capsys.readouterr().err
    monkeypatch.setenv("MAHAVISHNU_LIMITS__PER_CLENT__RATE", "5/minute")
    assert cli.run(["config"]) == 1
    assert "did you mean MAHAVISHNU_LIMITS__PER_CLIENT__RATE?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("limits: {a: {rat: 300/minute, per: ip}}\n", "{rat: 300/minute,"),
        ("limits: {a: {rate: 300/minute, match: {pth: /items}}}\n", "{pth: /items}"),
        ("deploy: {replica: {min: 8000}}\n", "{min: 8000}"),
    ],
)
def test_a_typo_of_what_is_no_secret_hides_nothing(tmp_path: Path, text: str, shown: str) -> None:
    """Else a person sees stars where he has to see his own line."""
    assert shown in full(refused(tmp_path, text))
