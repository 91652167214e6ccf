"""The manual (README and docs/): its every command and snippet, carried out in an empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from pkgutil import resolve_name
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from starlette.applications import Starlette

from mahavishnu import cli
from mahavishnu.asgi import Hardening
from mahavishnu.cli._verbs import VERBS
from mahavishnu.cli.backup import backup
from mahavishnu.cli.dead_letters import Action
from mahavishnu.files.notes import BEGIN
from mahavishnu.runtime import current
from mahavishnu.runtime.dead_letters.sqlite import SqliteLetters
from mahavishnu.survey import Kind
from tests import warm
from tests.backup.world import PASSWORD, begin
from tests.files.test_merges import ATTRIBUTES
from tests.judges import judge
from tests.pages import MANUAL, ROOT, Block, anchors, fenced, inline, links
from tests.ports import free_port
from tests.runtime.calls import test_troubles
from tests.stack import alertmanager, prometheus, serving

BLOCKS = [block for page in MANUAL for block in fenced(page)]
MARKED = {block.marker: block.text for block in BLOCKS if block.marker}
TEXT = {page: (ROOT / page).read_text(encoding="utf-8") for page in MANUAL}
LISTED = re.compile(r"(mahavishnu [a-z].*?) {3,}\S.*")
"""A line of a list of commands: the command, and what it is for."""


def listed(text: str) -> list[str]:
    """The commands of a list of them; empty where some line is none."""
    found = [LISTED.fullmatch(line) for line in text.splitlines()]
    return [line[1] for line in found if line] if all(found) else []


SNIPPETS = [block for block in BLOCKS if block.language == "yaml" and block.marker != "spec"]
COMMANDS = [command for block in BLOCKS if not block.marker for command in listed(block.text)]
TARGETS = sorted(
    {target for text in TEXT.values() for target in re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)}
)
PLAIN = """
from starlette.applications import Starlette
from starlette.routing import Route
app = Starlette(routes=[Route("/products", print)])
"""
FASTMCP = '''
"""What the manual needs of FastMCP."""
from starlette.applications import Starlette

class FastMCP:
    def __init__(self, name, *, auth): self.tools = {}
    def tool(self, function):
        self.tools[function.__name__] = function
        return function
    def http_app(self, *, middleware): return Starlette(middleware=middleware)
'''
ASKS = (Kind.ENVIRONMENT, Kind.NEWER, Kind.CONFLICTED, Kind.EDITED, Kind.FOREIGN)
NEVER = (Kind.NOTED, Kind.IRREGULAR)
"""States in which `generate` stops: without `--force`, and with it, too."""
SAVED = """\
secrets: [SLACK_WEBHOOK, RESTIC_PASSWORD]
retention: {backups: {daily: 30}}
deploy: {}
backups:
  orders:
    source: {sqlite: orders.db}
    to: repository
    password: "${RESTIC_PASSWORD}"
    schedule: "0 2 * * *"
    rpo: 25h
    rto: 1h
    verify: {restore: weekly, assert: "select count(*) > 0 from orders"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds README's spec and the app it names."""
    (tmp_path / "mahavishnu.yaml").write_text(MARKED["spec"])
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def parking(folder: Path) -> None:
    """README's spec, with calls that are kept."""
    (folder / "mahavishnu.yaml").write_text(
        MARKED["spec"].replace("    timeout: 200ms", "    timeout: 200ms\n    fallback: dead_letter")
    )


def environment(**more: str) -> dict[str, str]:
    """That of a reader who has installed the package and nothing else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAHAVISHNU_")}
    return {**kept, "PATH": f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ['PATH']}", **more}


def run(folder: Path, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of the manual with this project's own `mahavishnu`."""
    words, said = shlex.split(command), environment(**more)
    if words[0] == "mahavishnu":
        return warm.run([sys.executable, "-m", *words], cwd=folder, env=said)
    return subprocess.run(words, cwd=folder, env=said, capture_output=True, text=True, check=False)


def python(folder: Path, text: str) -> str:
    """What a program prints, which must end well."""
    ran = subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def put(folder: Path, snippet: str) -> None:
    """README's spec with the sections of a snippet in the place of its own."""
    sections = {line.partition(":")[0] for line in snippet.splitlines()}
    kept = re.split(r"^(?=\w+:)", MARKED["spec"], flags=re.MULTILINE)
    text = "".join(one for one in kept if one.partition(":")[0] not in sections) + snippet
    (folder / "mahavishnu.yaml").write_text(text)


def saving(folder: Path) -> None:
    """README's spec with a backup that was made once."""
    judge("restic")
    put(folder, SAVED)
    begin(folder / "repository")
    with closing(sqlite3.connect(folder / "orders.db")) as database:
        database.executescript("create table orders(id); insert into orders values (1)")
    saved = run(folder, "mahavishnu backup run", RESTIC_PASSWORD=PASSWORD)
    assert saved.returncode == 0, saved.stdout + saved.stderr


def test_the_command_line_is_listed() -> None:
    """README names every verb of it."""
    assert {command.split()[1] for command in COMMANDS} == set(VERBS)


@pytest.mark.parametrize(
    ("group", "verbs"),
    [
        ("backup", {str(one.name) for one in backup.registered_commands}),
        ("dead-letters", {one.value for one in Action}),
    ],
)
def test_the_verbs_of_a_group_are_listed(group: str, verbs: set[str]) -> None:
    """README names every one in the line of the group, and its page has a command for each."""
    (line,) = re.findall(rf"^mahavishnu {group} (.*)$", TEXT["README.md"], re.MULTILINE)
    first, _, rest = line.partition(" ")
    assert {first, *rest.rpartition("; ")[2].split(", ")} == verbs
    assert {command.split()[2] for command in listed(MARKED[f"{group} commands"])} == verbs


@pytest.mark.parametrize(
    "command",
    [pytest.param(one, marks=pytest.mark.proof) if one == "mahavishnu test" else one for one in COMMANDS],
)
def test_command(command: str, folder: Path) -> None:
    """The command works on README's own spec."""
    if command.startswith("mahavishnu init"):
        (folder / "mahavishnu.yaml").unlink()
        (folder / "shop").mkdir()
        (folder / "shop/main.py").write_text(PLAIN)
    if command.startswith("mahavishnu dead-letters"):
        parking(folder)
        with closing(SqliteLetters(str(folder / ".mahavishnu/dead_letters.db"), lambda: 0)) as letters:
            assert letters.stats().entries == 0
    if command.startswith("mahavishnu backup"):
        saving(folder)
    if command.startswith("mahavishnu test"):
        judge("promtool")
        put(folder, "slos: {}\n")
        assert run(folder, "mahavishnu generate").returncode == 0
    with serving(shown(folder) if "URL" in command else "") as url:
        ran = run(folder, command.replace("URL", url), RESTIC_PASSWORD=PASSWORD)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def shown(folder: Path) -> str:
    """What a service of README's spec shows."""
    current.forget()
    service = Hardening(Starlette(), spec=folder / "mahavishnu.yaml").service
    current.forget()
    return service.metrics.expose()[0].decode()


def test_the_finding_is_what_is_printed(folder: Path) -> None:
    """The misspelt key is told as README shows it."""
    (folder / "mahavishnu.yaml").write_text(MARKED["spec"].replace("burst:", "brust:"))
    ran = run(folder, "mahavishnu check")
    assert ran.returncode == 1
    assert MARKED["finding"].rstrip() in ran.stderr


def test_an_alert_says_for_how_many_it_waits(folder: Path) -> None:
    """In the words that the manual shows."""
    ran = run(folder, "mahavishnu explain ShopLimitRequestTimingOut")
    assert MARKED["waits"] in ran.stdout


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[block.place for block in SNIPPETS])
def test_a_snippet_fits_the_spec(folder: Path, snippet: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one of YAML, in the place of the same sections; the app is another's where dependencies are."""
    put(folder, snippet.text)
    monkeypatch.chdir(folder)
    assert cli.run(["check", "--no-app"]) == 0


def test_several_workers_fit_the_spec(folder: Path) -> None:
    """The sections of workers; what each worker has is told."""
    put(folder, MARKED["workers"])
    ran = run(folder, "mahavishnu check")
    assert ran.returncode == 0, ran.stderr
    assert "limit `reports` has its places in each worker: up to 16 in a replica" in ran.stdout


def test_the_app_runs(folder: Path) -> None:
    """The snippet of the app is whole: it imports, and answers."""
    asked = """
from starlette.testclient import TestClient
with TestClient(app) as client:
    print(client.get("/readyz").status_code, client.get("/nowhere").headers["ratelimit-policy"])
"""
    assert '200 "per_client";q=300;w=60' in python(folder, MARKED["app"] + asked)


def test_a_user_can_test_the_service(folder: Path) -> None:
    """The snippet is a test of the app above it, and passes; with another burst in the spec it fails."""
    (folder / "test_shop.py").write_text(MARKED["app"] + MARKED["tests"])
    passed = run(folder, f"{sys.executable} -m pytest -q test_shop.py")
    assert "1 passed" in passed.stdout, passed.stdout + passed.stderr
    (folder / "mahavishnu.yaml").write_text(MARKED["spec"].replace("burst: 50", "burst: 60"))
    assert "1 failed" in run(folder, f"{sys.executable} -m pytest -q test_shop.py").stdout


@pytest.mark.proof
def test_a_slow_dependency_is_ended_by_the_clock(folder: Path) -> None:
    """The snippet is a test, and passes at once; with another timeout in the spec the clock moves too little."""
    (folder / "test_slow.py").write_text(
        MARKED["slow"].replace("await task", "await asyncio.wait_for(task, 2)")
    )
    command = f"{sys.executable} -m pytest -q -p no:cacheprovider test_slow.py"
    passed = run(folder, command)
    assert "1 passed" in passed.stdout, passed.stdout + passed.stderr
    (folder / "mahavishnu.yaml").write_text(MARKED["spec"].replace("timeout: 200ms", "timeout: 300ms"))
    assert "1 failed" in run(folder, command).stdout


def test_a_dependency_guards_every_form_of_a_call(folder: Path) -> None:
    """Each of them runs, and gives back what is in it."""
    asked = """
import asyncio
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

class Paid(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "4")
        self.end_headers()
        self.wfile.write(b"paid")

server = HTTPServer(("127.0.0.1", 0), Paid)
Thread(target=server.serve_forever, daemon=True).start()
url = f"http://127.0.0.1:{server.server_address[1]}/"

async def main():
    return [await charge({}), await a_block({}), await a_loop({}), await an_httpx_client(url)]

print(asyncio.run(main()))
"""
    assert "[None, 'paid', 'paid', 'paid']" in python(folder, MARKED["forms"] + asked)


def test_a_tool_has_its_limit(folder: Path) -> None:
    """The snippet is whole: what it registers is limited, and its app answers."""
    put(folder, MARKED["tool limits"])
    (folder / "fastmcp.py").write_text(FASTMCP)
    asked = """
import asyncio
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from mahavishnu.errors import RateLimited

async def search():
    for turn in range(9):
        try:
            await mcp.tools["search_products"]("red shoes")
        except RateLimited as refused:
            return turn, refused.limit, refused.place, refused.retry_after > 0

async def lets_it_through(request):
    return PlainTextResponse(await mcp.tools["search_products"]("red shoes") or "none")

app.add_route("/search", lets_it_through)
with TestClient(app) as client:
    print(client.get("/readyz").status_code, client.portal.call(search), client.get("/search").status_code)
"""
    told = python(folder, "verifier = None\n" + MARKED["mcp"] + asked)
    assert "200 (5, 'search', 'limits.search', True) 429" in told


@contextmanager
def service(folder: Path, **more: str) -> Generator[int]:
    """README's app, served by uvicorn; its port."""
    (folder / "app.py").write_text(MARKED["app"])
    port = free_port()
    line = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port), "--no-proxy-headers"]
    with subprocess.Popen(line, cwd=folder, env=environment(**more), stdout=subprocess.DEVNULL) as process:
        try:
            ready(f"http://127.0.0.1:{port}/readyz", process)
            yield port
        finally:
            process.terminate()


def ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            with urlopen(url, timeout=1):
                return
        except URLError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


def test_operators_are_told_whom_limits_refuse(folder: Path) -> None:
    """The request of the manual, as a shell makes it: it is answered with the hash of the client."""
    put(folder, MARKED["ops"])
    with service(folder, OPS_TOKEN="correct horse battery staple") as port:
        line = MARKED["ops request"].replace("localhost:8000", f"127.0.0.1:{port}")
        asked = run(folder, shlex.join(["sh", "-c", line]), OPS_TOKEN="correct horse battery staple")
    assert "as_address" in json.loads(asked.stdout)["asked"], asked.stdout + asked.stderr


HANDLED = """
import asyncio
class client:
    async def post(*args, **more):
        raise ConnectionError
print(asyncio.run(handle({"id": "order-7"})))
"""


@pytest.mark.proof
def test_a_call_that_fails_is_kept(folder: Path) -> None:
    """The snippet is whole: its handler answers 202, and the commands find the letter in the file."""
    parking(folder)
    assert "(202, 'order-7')" in python(folder, MARKED["letters"] + HANDLED)
    kept = run(folder, "mahavishnu dead-letters list --format json").stdout
    assert '"key": "order-7"' in kept
    (known,) = re.findall(r'"id": "?(\w+)', kept)
    for command in listed(MARKED["dead-letters commands"]):
        ran = run(folder, command.replace("ID", known))
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert ran.stdout.strip()
    assert "order-7" not in run(folder, "mahavishnu dead-letters list --format json").stdout


@pytest.mark.proof
@pytest.mark.judge
def test_a_backup_is_made_proved_and_restored(folder: Path) -> None:
    """The commands, one after the other, on a database and a repository beside it."""
    saving(folder)
    for command in listed(MARKED["backup commands"]):
        ran = run(folder, command.replace("FOLDER", "restored"), RESTIC_PASSWORD=PASSWORD)
        assert ran.returncode == 0, command + ran.stdout + ran.stderr
    assert any((folder / "restored").iterdir())
    assert (folder / "orders.db.before-restore").exists()


@pytest.mark.judge
def test_what_runs_is_compared(folder: Path) -> None:
    """The commands, with real servers: that nothing is scraped is a difference, all else agrees."""
    put(folder, "secrets: []\nchannels: {}\n")
    assert run(folder, "mahavishnu generate").returncode == 0
    (folder / "login").write_text(MARKED["headers"])
    config = folder / "deploy/alertmanager/alertmanager.yml"
    login = re.findall("^Authorization: (.*)$", MARKED["headers"], re.MULTILINE)[0]
    with (
        serving(shown(folder)) as plain,
        serving(shown(folder), login) as guarded,
        prometheus(folder / "deploy/prometheus/prometheus.yml", folder) as asked,
        alertmanager(config, folder) as told,
    ):
        urls = {"--live": plain, "--prometheus": asked, "--alertmanager": told, "--header-file": guarded}
        for command in listed(MARKED["diff commands"]):
            option = command.split()[-2]
            ran = run(folder, command.replace("URL", urls[option]).replace("FILE", "login"))
            assert ran.returncode == (1 if option == "--prometheus" else 0), ran.stdout + ran.stderr
            assert "rule " not in ran.stdout
            assert urls.pop(option) in ran.stdout
        assert urls == {}
        assert run(folder, f"mahavishnu diff --live {guarded}").returncode == 2


def test_every_state_of_a_file_is_in_the_table() -> None:
    """With what becomes of it."""
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| (writes|removes|stops)", TEXT["docs/generated-files.md"], re.MULTILINE
    )
    assert [state for state, _ in rows] == [*dict.fromkeys(state for state, _ in rows)]
    assert {state for state, _ in rows} == set(Kind)
    assert {state for state, end in rows if end == "stops"} == {*ASKS, *NEVER}
    told = re.findall(
        r"^\| `(\w+)` .* stops, also with `--force`", TEXT["docs/generated-files.md"], re.MULTILINE
    )
    assert set(told) == set(NEVER)


def test_the_attributes_are_those_with_which_branches_are_merged() -> None:
    """tests/test_merges.py merges two with them."""
    assert MARKED["attributes"] == ATTRIBUTES


def test_notes_live_on_in_a_page_of_a_template_of_ones_own(folder: Path) -> None:
    """With the lines that the manual shows; without them they are in the way."""
    template = folder / ".mahavishnu/templates/runbooks/alert.md.j2"
    template.parent.mkdir(parents=True)
    template.write_text("# {{ alert.name }}\n\n" + MARKED["notes template"])
    assert run(folder, "mahavishnu generate").returncode == 0
    page = folder / "deploy/runbooks/ShopDown.md"
    page.write_text(page.read_text().replace(BEGIN, f"{BEGIN}\nCall Ann."))
    template.write_text("# The page of {{ alert.name }}\n\n" + MARKED["notes template"])
    assert run(folder, "mahavishnu generate").returncode == 0
    assert "# The page of ShopDown" in page.read_text()
    assert "Call Ann." in page.read_text()
    template.write_text("# {{ alert.name }}\n")
    assert "noted: deploy/runbooks/ShopDown.md" in run(folder, "mahavishnu generate --force").stderr
    assert "Call Ann." in page.read_text()


def test_the_targets_are_there() -> None:
    """README names those that a stranger needs."""
    assert {"demo", "test", "proof", "bench"} <= set(TARGETS)


@pytest.mark.parametrize("target", TARGETS)
def test_make_target(target: str) -> None:
    """The Makefile has what the manual names; the targets' own work is done by what they call."""
    ran = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def demo() -> str:
    command = [sys.executable, "-m", "examples.shop.demo"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.proof
@pytest.mark.judge
def test_the_demo_tells_what_happened() -> None:
    """`make demo` reaches every boundary and says so: the limits, the breaker, the series.

    With restic at hand, it loses its orders and gets them again; with promtool, it says which alerts would fire.
    """
    told = demo()
    for fact in (
        "after waiting that Retry-After: 200",
        "7 guesses: 401 401 401 401 401 429 429",
        "a body of 70000 bytes: 413",
        "a search for everything: 504",
        "breaker: open",
        "40 orders: 40 x 202",
        "40 of 40 kept orders are paid, each once; 0 are left",
        "a new order: 201   breaker: closed",
        'mahavishnu_breaker_state{dependency="payment",state="open"}',
    ):
        assert fact in told
    admitted, took = re.findall(r"as fast as they go: (\d+) x 200, 1 x 429, in ([\d.]+) s", told)[0]
    assert 50 <= int(admitted) <= 51 + 5 * float(took)
    assert re.search(r"12 at once: \d+ x 200, \d x 503", told)
    judge("restic")
    assert "orders after the restore: 1000" in told
    judge("promtool")
    assert re.search(r"ShopDependencyPaymentBreakerOpen +P2", told)


def test_the_committed_files_are_what_is_generated() -> None:
    """examples/shop/deploy is the golden of mahavishnu.yaml."""
    ran = run(ROOT, "mahavishnu generate --check --spec mahavishnu.yaml --out examples/shop/deploy")
    assert ran.returncode == 0, ran.stdout + ran.stderr


RUN: dict[str, Callable[..., None]] = {
    "spec": test_command,
    "finding": test_the_finding_is_what_is_printed,
    "waits": test_an_alert_says_for_how_many_it_waits,
    "app": test_the_app_runs,
    "tests": test_a_user_can_test_the_service,
    "workers": test_several_workers_fit_the_spec,
    "forms": test_a_dependency_guards_every_form_of_a_call,
    "tool limits": test_a_tool_has_its_limit,
    "mcp": test_a_tool_has_its_limit,
    "ops": test_operators_are_told_whom_limits_refuse,
    "ops request": test_operators_are_told_whom_limits_refuse,
    "letters": test_a_call_that_fails_is_kept,
    "dead-letters commands": test_a_call_that_fails_is_kept,
    "backup commands": test_a_backup_is_made_proved_and_restored,
    "dependency log": test_troubles.test_the_manual_shows_what_is_written,
    "slow": test_a_slow_dependency_is_ended_by_the_clock,
    "diff commands": test_what_runs_is_compared,
    "headers": test_what_runs_is_compared,
    "attributes": test_the_attributes_are_those_with_which_branches_are_merged,
    "notes template": test_notes_live_on_in_a_page_of_a_template_of_ones_own,
}
"""Which test runs a marked block; the others are YAML, lists of commands, or targets of make."""


def not_run(blocks: Iterable[Block]) -> list[str]:
    """The places of those blocks that no test above runs."""

    def known(block: Block) -> bool:
        if block.marker:
            return block.marker in RUN
        made = all(line.startswith("make ") for line in block.text.splitlines())
        return block.language == "yaml" or bool(listed(block.text)) or made

    return [block.place for block in blocks if not known(block)]


def test_every_block_is_run() -> None:
    """A page that shows what no test runs is a failure; no marker is there twice, or named for nothing."""
    assert not_run(BLOCKS) == []
    marked = [block.marker for block in BLOCKS if block.marker]
    assert sorted(marked) == sorted(RUN)


@pytest.mark.parametrize(
    ("marker", "language", "text"),
    [
        ("", "python", "import mahavishnu\n"),
        ("new", "python", "import mahavishnu\n"),
        ("new", "yaml", "mahavishnu: 1\n"),
        ("", "", "pip install mahavishnu\n"),
        ("", "", "mahavishnu check    every mistake\nmahavishnu\n"),
    ],
)
def test_a_block_that_no_test_runs_is_found(marker: str, language: str, text: str) -> None:
    """The guard above can fail."""
    assert not_run([Block("docs/new.md", 7, marker, language, text)]) == ["docs/new.md:7"]


WORDS = [(page, word) for page in MANUAL for word in inline(page)]
SAID = [word for _, word in WORDS if re.match(r"mahavishnu [a-z]", word)]
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "framework").rglob("*.py"))
NO_MODULES = {"mahavishnu.yaml", "mahavishnu.lock"}


@pytest.mark.parametrize("command", sorted(set(SAID)))
def test_a_command_in_a_sentence_is_one(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`explain` knows what it is asked; of the others the verb is there."""
    put(folder, "retention: {logs: 30d}\n")
    asked = command if command.startswith("mahavishnu explain") else f"{command} --help"
    monkeypatch.chdir(folder)
    assert cli.run(shlex.split(asked)[1:]) == 0


def test_names_in_the_manual_are_those_of_the_code() -> None:
    """Series, codes of findings, what is imported, extras of the package."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "\n".join(TEXT.values())
    series = set(re.findall(r"\bmahavishnu_\w+", text))
    assert {name for name in series if name not in SOURCE} == set()
    assert {code for code in re.findall(r"\bMV\d{3}\b", text) if f'"{code}"' not in SOURCE} == set()
    assert set(re.findall(r"mahavishnu\[(\w+)\]", text)) - set(extras) == set()
    for name in set(re.findall(r"\bmahavishnu\.[\w.:]*\w", " ".join(word for _, word in WORDS))) - NO_MODULES:
        resolve_name(name)


def test_links_lead_somewhere() -> None:
    """Every page is linked from README; every link within the project leads to a file, and a heading of it."""
    for page in MANUAL:
        for link in links(page):
            if not link.startswith("https://"):
                path, _, anchor = link.partition("#")
                there = (ROOT / page).parent / path if path else ROOT / page
                assert there.exists(), f"{page}: {link}"
                assert not anchor or anchor in anchors(there), f"{page}: {link}"
    assert set(MANUAL) - set(links("README.md")) == {"README.md"}
