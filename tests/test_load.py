"""From a file and the layers above it to a spec, or to every fault at its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from mahavishnu.cli._output import concise, full
from mahavishnu.errors import Finding, Level, Problem, SpecError
from mahavishnu.ground.variables import RESERVED
from mahavishnu.load import Loaded, accept, find_spec, load
from mahavishnu.loading import layers
from mahavishnu.loading.shape import dotted, places
from mahavishnu.policies.rate import Rate

SPECS = Path(__file__).parent / "specs"
BASE = """\
mahavishnu: 1
service: {name: shop, app: shop.main:app}
secrets: [HOOK]
limits:
  per_client: {rate: 100/minute, burst: 20}
channels:
  room: {slack: "${HOOK}", channel: "#shop"}
retention: {metrics: 45d}
environments:
  staging:
    limits: {per_client: {rate: 10/minute, burst: null}}
  local: {retention: null}
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec in an empty folder, which is the working directory too."""
    monkeypatch.chdir(tmp_path)
    return written(tmp_path, BASE)


def written(folder: Path, text: str) -> Path:
    """A spec with this text."""
    path = folder / "mahavishnu.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, **options: object) -> tuple[Finding, ...]:
    """The findings with which a spec is refused."""
    with pytest.raises(SpecError) as refused:
        load(path, **options)  # type: ignore[arg-type]
    return refused.value.findings


def per_client(loaded: Loaded) -> Rate:
    """The limit that the layers change."""
    limit = loaded.spec.limits["per_client"]
    assert isinstance(limit, Rate)
    return limit


# --- the contract of the vocabulary ---------------------------------------------------------------


def test_the_minimal_spec_loads_cleanly() -> None:
    """Nothing to say about it, and every word of it arrives."""
    loaded = load(SPECS / "minimal.yaml")

    assert loaded.findings == ()
    assert str(per_client(loaded).rate) == "100/minute"


LATER = """\
22:60 `tool` in `limits.reports.match`
48:58 `tool` in `slos.checkout.match`
90:3 `scan` in `security`
95:3 `actions` in `ops`
97:1 `smoke` in the spec
108:3 `rollout` in `deploy`
112:5 `cloud_run` in `deploy.targets`
114:1 `readiness` in the spec
"""


def test_the_full_spec_is_refused_for_each_word_that_is_not_carried_out_and_nothing_else() -> None:
    """Every word of the format that would be accepted and ignored has one finding by name."""
    found = refusal(SPECS / "full.yaml")

    said = [
        f"{one.where.line}:{one.where.column} {one.what.split(' is part of')[0]}"
        for one in found
        if one.where
    ]
    assert {one.code for one in found} == {"MV110"}
    assert said == LATER.splitlines()


# --- what a person reads --------------------------------------------------------------------------


def test_a_finding_is_printed_as_the_design_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code, sentence, place, the line, a caret under the token, help."""
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, BASE.replace("burst: 20", "brust: 50, per: client"))

    assert full(refusal(path)[:1]) == (
        "error[MV101]: unknown key `brust` in `limits.per_client`\n"
        " --> mahavishnu.yaml:5:34\n"
        "  |\n"
        "5 |   per_client: {rate: 100/minute, brust: 50, per: client}\n"
        "  |                                  ^^^^^\n"
        "  = help: did you mean `burst`?\n"
    )


def test_all_faults_of_one_run_come_together_in_the_order_of_the_file(spec: Path) -> None:
    """YAML, shape and references in one list."""
    path = written(
        spec.parent,
        "mahavishnu: 1\nservice: {name: Shop, app: shop.main:app, prot: 1}\nlimits:\n  a: {rate: "
        "5}\n  a: {rate: 6}\n"
        "channels: {room: {slack: '${NO}', channel: '#x'}}\nretention: {metrics: 5}\n",
    )

    assert [one.code for one in refusal(path)] == ["MV106", "MV101", "MV102", "MV011", "MV401", "MV102"]


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null\n"])
def test_an_empty_file_says_how_to_begin(spec: Path, text: str) -> None:
    """Not a list of every key that is missing."""
    found = refusal(written(spec.parent, text))

    assert [(one.code, one.what) for one in found] == [("MV015", "the file is empty")]
    assert "mahavishnu: 1" in found[0].help


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", "holds a list"),
        ("hello\n", "holds a single value"),
        ("services: {web: {}}\n", "`mahavishnu: 1` is missing"),
    ],
)
def test_another_kind_of_file_is_told_apart(spec: Path, text: str, says: str) -> None:
    """One finding, not one for each line."""
    found = refusal(written(spec.parent, text))

    assert [one.code for one in found] == ["MV016"]
    assert says in found[0].what


def test_a_spec_without_its_mark_is_told_what_is_missing(spec: Path) -> None:
    """The rest of it is judged all the same."""
    found = refusal(written(spec.parent, BASE.replace("mahavishnu: 1\n", "").replace("100/minute", "100")))

    assert [one.code for one in found] == ["MV016", "MV102"]


@pytest.mark.parametrize("name", ["missing.yaml", ".", "a\0b"])
def test_a_file_that_cannot_be_read_is_a_finding(spec: Path, name: str) -> None:
    """No traceback for a folder, a missing file or an impossible name."""
    assert [one.code for one in refusal(spec.parent / name)] == ["MV001"]


# --- secrets --------------------------------------------------------------------------------------

CANARY = "hunter2-hunter2"


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace('"${HOOK}"', f'"https://hooks.example.com/{CANARY}"'),
        BASE.replace('slack: "${HOOK}"', f"slak: {CANARY}"),
        BASE.replace('channel: "#shop"', f"token: {CANARY}"),
        BASE.replace('"${HOOK}"', f"{CANARY}, chanel: x"),
        BASE.replace('slack: "${HOOK}"', f"slack: {{url: {CANARY}}}"),
        BASE.replace("limits:", f"dependencies: {{a: {{url: 'https://me:{CANARY}@example.com'}}}}\nlimits:"),
        BASE.replace('{slack: "${HOOK}", channel: "#shop"}', f"\n    slack: >\n      {CANARY}\n    x: y"),
        BASE + f"password: {CANARY}\n",
        BASE + f'"password": "{CANARY}" x\n',
        BASE + f"  prod: {{channels: {{room: {{slack: {CANARY}, x: y}}}}}}\n",
        BASE.replace('{slack: "${HOOK}", channel: "#shop"}', f"https://hooks.example.com/{CANARY}"),
        BASE.replace("[HOOK]", f"{{HOOK: {CANARY}}}"),
        BASE.replace("[HOOK]", f"[HOOK={CANARY}]"),
        BASE.replace("[HOOK]", f"[HOOK: {CANARY}]"),
        BASE.replace("[HOOK]", f"[HOOK, {CANARY}-1]"),
        BASE + f"store: redis:/:{CANARY}@cache\n",
        BASE + f"store: redis://:a@{CANARY}@cache\n",
        BASE + f"store: redis://:a/{CANARY}@cache\n",
        BASE.replace('slack: "${HOOK}"', f"email: a@example.com, smtp: 'me:{CANARY}@example.com'"),
        BASE + f"backups: {{a: {{to: 'sftp:me:{CANARY}@example.com/x'}}}}\n",
        BASE + f"backups: {{a: {{source: {{command: [dump, '--password={CANARY}']}}, too: x}}}}\n",
        BASE + f"backups: {{a: {{ssh: {CANARY}}}}}\n",
        BASE + f"ops: {CANARY}\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("canary", [CANARY, "AKIA7HUNTER2"])
def test_a_secret_that_is_written_out_never_shows_in_a_finding(spec: Path, text: str, canary: str) -> None:
    """Neither in a sentence nor in the line that is quoted, whatever the fault is; some look like a variable's name."""
    found = refusal(written(spec.parent, text.replace(CANARY, canary)))

    assert found
    assert canary not in full(found) + concise(found) + repr(found)


def test_what_is_no_secret_is_shown(spec: Path) -> None:
    """Hidden, it could not be compared with what was meant."""
    plain = (
        "database_url",
        "sftp:me@example.com:/x",
        "ghcr.io/shop:1.2@sha256:ab",
        "https://example.com/a/b",
    )
    text = BASE.replace("[HOOK]", f"[HOOK, {plain[0]}]")
    text += f"backups: {{a: {{to: '{plain[1]}', too: x}}}}\n"
    text += f"deploy: {{image: '{plain[2]}', imag: x}}\ndependencies: {{a: {{url: '{plain[3]}', too: x}}}}\n"

    told = full(refusal(written(spec.parent, text)))

    assert [one for one in plain if one not in told] == []


def test_a_reference_must_be_declared_and_stand_where_a_secret_is_taken(spec: Path) -> None:
    """An undeclared one, one that is nearly right, one where nothing replaces it."""
    path = written(
        spec.parent,
        BASE.replace('"${HOOK}"', '"${HOK}"').replace(
            "name: shop", "name: shop, owner: 'team ${HOOK}', tier: '${WHO}'"
        ),
    )

    assert [(one.code, one.help) for one in refusal(path)] == [
        ("MV122", "write the value itself, where it is no secret"),
        ("MV105", "use one of `critical`, `standard`, `experimental`"),
        ("MV401", 'did you mean `"${HOOK}"`?'),
    ]


def test_a_secret_may_stand_where_one_value_is_a_list_of_its_own(spec: Path) -> None:
    """`to` with one repository takes what the same repository takes as an item."""
    source = 'source: {sqlite: data/a.db}, password: "${HOOK}", schedule: "0 2 * * *", rpo: 25h'
    for to in ("'rest:https://me:${HOOK}@h/x'", "['rest:https://me:${HOOK}@h/x']"):
        loaded = load(written(spec.parent, f"{BASE}backups: {{a: {{{source}, to: {to}}}}}\n"))
        assert loaded.spec.backups["a"].to == ("rest:https://me:${HOOK}@h/x",)


# --- environments ---------------------------------------------------------------------------------


def test_an_environment_is_a_merge_patch(spec: Path) -> None:
    """Mappings merge, null removes, the rest stays."""
    limit = per_client(load(spec, "staging"))

    assert (str(limit.rate), limit.burst) == ("10/minute", None)
    assert per_client(load(spec)).burst == 20
    assert "retention" not in load(spec, "local").tree.entries


def test_an_unknown_environment_is_refused_with_the_nearest(spec: Path) -> None:
    """Running with no environment's settings would be a surprise."""
    found = refusal(spec, environment="stagin")

    assert [(one.code, one.help) for one in found] == [("MV112", "did you mean `staging`?")]


def test_every_environment_is_judged_when_none_is_asked_for(spec: Path) -> None:
    """A fault that only one has is found before that one is deployed, at its own line."""
    path = written(spec.parent, BASE.replace("rate: 10/minute", "rate: 10"))

    found = refusal(path)

    assert [(one.code, one.what.endswith("(environment `staging`)")) for one in found] == [("MV102", True)]
    assert found[0].where is not None
    assert found[0].where.line == 11
    assert load(path, "local").spec.service.name == "shop"


def test_a_fault_of_the_main_part_is_said_once(spec: Path) -> None:
    """Not again for each environment."""
    assert (
        len(
            refusal(
                written(spec.parent, BASE.replace("100/minute", "100").replace("{rate: 10/minute, ", "{"))
            )
        )
        == 1
    )


# --- the layers of a machine ----------------------------------------------------------------------


def test_the_strongest_layer_wins(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File < environment < secrets directory < .env < variable < explicit override."""
    secrets = spec.parent / "secrets"
    secrets.mkdir()
    monkeypatch.setattr(layers, "SECRETS", secrets)
    name = "MAHAVISHNU_LIMITS__PER_CLIENT__RATE"

    def rate(**options: object) -> str:
        return str(per_client(load(spec, **options)).rate)  # type: ignore[arg-type]

    assert rate() == "100/minute"
    assert rate(environment="staging") == "10/minute"
    (secrets / name).write_text("11/minute", encoding="utf-8")
    assert rate(environment="staging", runtime=True) == "11/minute"
    (spec.parent / ".env").write_text(f"{name}=12/minute\nOTHER=1\n", encoding="utf-8")
    assert rate(runtime=True) == "12/minute"
    monkeypatch.setenv(name, "13/minute")
    assert rate(runtime=True) == "13/minute"
    assert rate(runtime=True, overrides={"limits.per_client.rate": "14/minute"}) == "14/minute"
    assert rate() == "100/minute"


def test_artifacts_never_see_the_machine(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`declared` is the file's; `spec` is what this process does."""
    monkeypatch.setenv("MAHAVISHNU_SERVICE__PORT", "9000")

    loaded = load(spec, runtime=True)

    assert (loaded.declared.service.port, loaded.spec.service.port) == (8000, 9000)
    assert loaded.origins["service", "port"] == "environment variable MAHAVISHNU_SERVICE__PORT"
    assert loaded.origins["limits", "per_client", "rate"] == "mahavishnu.yaml:5"


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("LIMITS__PER_CLIENT__BURST", "7", ("limits", "per_client", "burst"), 7),
        ("LIMITS__PER_CLIENT__PER", '["client", "ip"]', ("limits", "per_client", "per"), ["client", "ip"]),
        ("LIMITS__PER_CLIENT__PER", "client,ip", ("limits", "per_client", "per"), ["client", "ip"]),
        ("SERVICE__OWNER", "12", ("service", "owner"), "12"),
        ("RETENTION__METRICS", "60d", ("retention", "metrics"), "60d"),
        ("OBSERVABILITY__LOGS__LEVEL", "debug", ("observability", "logs", "level"), "debug"),
        ("DEPLOY__REPLICAS__MAX", "3", ("deploy", "replicas", "max"), 3),
    ],
)
def test_a_variable_becomes_what_the_model_wants(
    spec: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, path: tuple[str, ...], value: object
) -> None:
    """Text for text, numbers for numbers, units through the same parsing, sections that are not written."""
    monkeypatch.setenv(f"MAHAVISHNU_{name}", text)

    found = load(spec, runtime=True).spec.model_dump(mode="json")

    for step in path:
        found = found[step]
    assert found == value


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("MAHAVISHNU_LIMITS__PER_CLENT__RATE", "MAHAVISHNU_LIMITS__PER_CLIENT__RATE"),
        ("MAHAVISHNU_LIMIT__PER_CLIENT__RATE", "MAHAVISHNU_LIMITS__PER_CLIENT__RATE"),
        ("MAHAVISHNU_LIMITS__OTHER__RATE", ""),
        ("MAHAVISHNU_LIMITS__PER-CLIENT__RATE", "MAHAVISHNU_LIMITS__PER_CLIENT__RATE"),
        ("MAHAVISHNU_LIMITS", ""),
        ("MAHAVISHNU_ENVIRONMENTS__STAGING__STORE", ""),
        ("MAHAVISHNU_PORT_8000_TCP_ADDR", ""),
        ("MAHAVISHNU_SERVICE_HOST", ""),
    ],
)
def test_a_variable_that_matches_nothing_warns_and_changes_nothing(
    spec: Path, monkeypatch: pytest.MonkeyPatch, name: str, near: str
) -> None:
    """Above all it adds no limit; the nearest real variable is named when there is one."""
    monkeypatch.setenv(name, CANARY)

    loaded = load(spec, runtime=True)

    assert list(loaded.spec.limits) == ["per_client"]
    assert [(one.severity, one.code) for one in loaded.findings] == [(Level.WARNING, "MV131")]
    assert name in loaded.findings[0].what
    assert near in loaded.findings[0].help
    assert CANARY not in repr(loaded.findings)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_variables_are_no_settings(spec: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """They say which spec, which environment, and whether at all."""
    monkeypatch.setenv(name, "1")

    assert load(spec, runtime=True).findings == ()


@pytest.mark.parametrize("name", sorted(RESERVED))
@pytest.mark.parametrize("place", [".env", "secrets"])
def test_a_reserved_variable_that_nobody_reads_is_told(
    spec: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    """Settings are read from there, but not these: unless the environment has it, too, or it says nothing."""
    monkeypatch.delenv(name, raising=False)
    (spec.parent / "secrets").mkdir()
    monkeypatch.setattr(layers, "SECRETS", spec.parent / "secrets")

    def findings(text: str) -> list[tuple[str, str, str]]:
        if place == ".env":
            (spec.parent / ".env").write_text(f"{name}={text}\n", encoding="utf-8")
        else:
            (spec.parent / "secrets" / name).write_text(text, encoding="utf-8")
        return [(str(one.severity), one.code, one.what) for one in load(spec, runtime=True).findings]

    kind = {".env": ".env variable", "secrets": "secret file"}[place]
    told = f"{kind} {name} is not heeded: it is read from the environment alone"
    assert findings("1") == [("warning", "MV131", told)]
    assert findings("") == []
    monkeypatch.setenv(name, "0")
    assert findings("1") == []


def test_a_reserved_variable_in_small_letters_is_told(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting may be written so; these are asked for in capitals."""
    monkeypatch.delenv("MAHAVISHNU_DISABLE", raising=False)
    monkeypatch.setenv("mahavishnu_disable", "1")

    (finding,) = load(spec, runtime=True).findings

    assert finding.code == "MV131"
    assert "in capitals" in finding.help


def test_a_bad_variable_is_named_and_has_no_place_in_the_file(
    spec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value goes through the same parsing as one in the file."""
    monkeypatch.setenv("MAHAVISHNU_LIMITS__PER_CLIENT__RATE", "100")
    monkeypatch.setenv("MAHAVISHNU_LIMITS__PER_CLIENT__BURST", "many")

    found = refusal(spec, runtime=True)

    assert [(one.code, one.where) for one in found] == [("MV102", None), ("MV104", None)]
    assert found[0].what.startswith(
        "environment variable MAHAVISHNU_LIMITS__PER_CLIENT__RATE: `100` is not a rate"
    )


def test_what_a_secret_file_holds_is_never_shown(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when it is wrong."""
    secrets = spec.parent / "secrets"
    secrets.mkdir()
    (secrets / "MAHAVISHNU_LIMITS__PER_CLIENT__RATE").write_text(CANARY, encoding="utf-8")
    monkeypatch.setattr(layers, "SECRETS", secrets)

    found = refusal(spec, runtime=True)

    assert [one.code for one in found] == ["MV102"]
    assert CANARY not in repr(found)


def test_other_peoples_secrets_are_not_opened(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key store beside ours, in a directory that everything shares, is none of our business."""
    secrets = spec.parent / "secrets"
    secrets.mkdir()
    (secrets / "keystore").write_bytes(b"\xff\x00\xfe")
    (secrets / "MAHAVISHNU_SERVICE__PORT").write_text("9000\n", encoding="utf-8")
    monkeypatch.setattr(layers, "SECRETS", secrets)

    assert load(spec, runtime=True).spec.service.port == 9000


@pytest.mark.parametrize("name", [".env", "secrets/MAHAVISHNU_SERVICE__PORT"])
def test_a_layer_that_cannot_be_read_is_a_finding(
    spec: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Not a traceback, and not silence: what it says would be lost."""
    (spec.parent / "secrets").mkdir()
    (spec.parent / name).write_bytes(b"MAHAVISHNU_X=\xff\n")
    monkeypatch.setattr(layers, "SECRETS", spec.parent / "secrets")

    assert [one.code for one in refusal(spec, runtime=True)] == ["MV131"]


# --- finding and accepting ------------------------------------------------------------------------


def test_the_spec_is_found_upwards_or_by_variable(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any folder below it; MAHAVISHNU_SPEC names another."""
    below = spec.parent / "a/b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)

    assert find_spec() == spec.resolve()

    monkeypatch.setenv("MAHAVISHNU_SPEC", "/elsewhere/x.yaml")
    assert find_spec() == Path("/elsewhere/x.yaml")
    assert find_spec(below) == spec.resolve()


def test_no_spec_anywhere_is_a_finding(tmp_path: Path) -> None:
    """With what to do about it."""
    with pytest.raises(SpecError) as refused:
        find_spec(tmp_path)

    (finding,) = refused.value.findings
    assert finding.code == "MV001"
    assert "set MAHAVISHNU_SPEC" in finding.help
    assert "--spec" not in finding.help, "which is an option of commands, and any program may ask"


def test_what_contradicts_itself_loads_but_is_not_accepted(spec: Path) -> None:
    """`load` judges the shape; `accept` lets the cross-checks speak, too."""
    assert accept(spec).spec.service.name == "shop"
    path = written(spec.parent, BASE + "alerts: {route: {P1: [rooom], P2: [room], P3: [room], P4: [room]}}\n")
    load(path)

    with pytest.raises(SpecError) as refused:
        accept(path)

    assert [one.code for one in refused.value.findings] == ["MV402"]


def test_a_start_is_refused_for_errors_and_says_nothing_of_warnings(spec: Path) -> None:
    """A condition on nothing would otherwise surface as a bug of ours, when the first alert is built."""
    warned = written(spec.parent, BASE + "slos: {availability: {objective: 99.9%}}\n")
    assert [one.code for one in accept(warned).findings] == ["MV502"]
    assert accept(warned, runtime=True).findings == ()

    refused = written(spec.parent, BASE + "alerts: {thresholds: {a: {when: queue.x > 5, severity: P3}}}\n")
    with pytest.raises(SpecError) as caught:
        accept(refused, runtime=True)
    assert [one.code for one in caught.value.findings] == ["MV403"]


def test_a_problem_of_a_check_is_located(spec: Path) -> None:
    """By the path it names, on the key when it says so."""
    loaded = load(spec)

    found = loaded.locate(Problem("MV999", ("limits", "per_client"), "x", on_key=True))

    assert found.where is not None
    assert (found.where.line, found.where.column, found.where.width) == (5, 3, len("per_client"))


# --- the models -----------------------------------------------------------------------------------


def test_no_place_of_the_format_converts_numbers_or_truth() -> None:
    """Every whole number and every truth value of the models is strict: `true` is not 1, `"5"` is not 5."""
    loose: list[str] = []
    for path, place in places():
        strict = any(
            getattr(note, "strict", None) or getattr(note, "func", None) for note in _notes(place.notes)
        )
        if {int, bool} & set(place.types) and not place.words and not strict:
            loose.append(dotted(path))

    assert loose == []


def _notes(notes: tuple[object, ...]) -> list[object]:
    """What was annotated, also inside a Field."""
    return [*notes, *(inner for note in notes for inner in getattr(note, "metadata", ()))]


@pytest.mark.parametrize(
    ("said", "helps"),
    [
        ("apikey", "did you mean `api_key`?"),
        ("[client, rout]", "did you mean `route`?"),
        ("tenant", "use one of `client`, `ip`, `network`, `user`"),
    ],
)
def test_a_word_in_the_place_of_a_list_is_helped_with_its_items(
    said: str, helps: str, tmp_path: Path
) -> None:
    """Whether it stands alone or among others."""
    path = written(tmp_path, BASE.replace("burst: 20", f"per: {said}"))
    with pytest.raises(SpecError) as told:
        load(path)
    assert helps in told.value.findings[0].help
