"""Every command and snippet of README and of the pages in docs/, carried out in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from starlette.applications import Starlette

from mahavishnu.asgi import Hardening
from mahavishnu.cli.backup import backup
from mahavishnu.runtime import current
from mahavishnu.runtime.dead_letters.sqlite import SqliteLetters
from tests.judges import judge
from tests.pages import ROOT, blocks, pages
from tests.stack import serving

PAGES = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in pages()}
README = {marker: text for page in PAGES for marker, text in blocks(page).items()}
COMMANDS = re.findall(r"^(mahavishnu [a-z][^\n]*?)   +", PAGES["README.md"], re.MULTILINE)
SNIPPETS = [
    text
    for page in PAGES.values()
    for before, text in re.findall(r"^(.*)\n```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    if before != "<!-- spec -->"
]
PLAIN = """
from starlette.applications import Starlette
from starlette.routing import Route
app = Starlette(routes=[Route("/products", print)])
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that holds README's spec and the app it names."""
    (tmp_path / "mahavishnu.yaml").write_text(README["spec"])
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def parking(folder: Path) -> None:
    """README's spec, with calls that are kept."""
    (folder / "mahavishnu.yaml").write_text(
        README["spec"].replace("    timeout: 200ms", "    timeout: 200ms\n    fallback: dead_letter")
    )


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of README with this project's own `mahavishnu`."""
    words = command.split()
    line = [sys.executable, "-m", *words] if words[0] == "mahavishnu" else words
    path = f"{ROOT / '.tools/bin'}{os.pathsep}{os.environ['PATH']}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAHAVISHNU_")}
    return subprocess.run(
        line, cwd=folder, env={**env, "PATH": path}, capture_output=True, text=True, check=False
    )


CARRIED_OUT = {"spec", "finding", "app", "tests", "letters", "workers", "tools"}
"""The marked blocks, each by a test of its own below."""


def test_no_block_is_left_out() -> None:
    """What is fenced is carried out: YAML as a snippet, what is marked by its test, and the lists of commands."""
    assert set(README) == CARRIED_OUT
    for name, page in PAGES.items():
        fences = re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        left = [text for kind, text in fences if kind != "yaml" and text not in README.values()]
        assert all(text.startswith(("make ", "mahavishnu ")) for text in left), name


def test_every_link_leads_somewhere() -> None:
    for name, page in PAGES.items():
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page)
        assert [one for one in links if not (ROOT / name).parent.joinpath(one).exists()] == [], name


def test_every_page_is_linked() -> None:
    assert {name for name in PAGES if f"]({name})" not in PAGES["README.md"]} == {"README.md"}


def test_there_are_commands() -> None:
    """README names every verb of the command line."""
    assert {command.split()[1] for command in COMMANDS} == {
        "init", "check", "generate", "test", "diff", "explain", "config", "schema", "dead-letters"
    }  # fmt: skip


def test_there_are_the_verbs_of_backups() -> None:
    """README names every one; tests of backups carry them out."""
    (line,) = re.findall(r"`mahavishnu backup (.*?)`", PAGES["README.md"])
    assert set(line.split(" | ")) == {one.name for one in backup.registered_commands}


@pytest.mark.parametrize("command", COMMANDS)
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
    if command.startswith("mahavishnu test"):
        judge("promtool")
        assert run(folder, "mahavishnu generate").returncode == 0
    with serving(shown(folder) if "URL" in command else "") as url:
        ran = run(folder, command.replace("URL", url))
    assert ran.returncode == 0, ran.stdout + ran.stderr


def shown(folder: Path) -> str:
    """What a service of README's spec shows."""
    current.forget()
    service = Hardening(Starlette(), spec=folder / "mahavishnu.yaml").service
    current.forget()
    return service.metrics.expose()[0].decode()


def test_the_finding_is_what_is_printed(folder: Path) -> None:
    """The misspelt key is told as README shows it."""
    (folder / "mahavishnu.yaml").write_text(README["spec"].replace("burst:", "brust:"))
    ran = run(folder, "mahavishnu check")
    assert ran.returncode == 1
    assert README["finding"].rstrip() in ran.stderr


def changed(folder: Path, snippet: str, command: str) -> subprocess.CompletedProcess[str]:
    """What a command says of README's spec with the sections of a snippet in the place of its own."""
    sections = {line.partition(":")[0] for line in snippet.splitlines()}
    kept = re.split(r"^(?=\w+:)", README["spec"], flags=re.MULTILINE)
    text = "".join(one for one in kept if one.partition(":")[0] not in sections) + snippet
    (folder / "mahavishnu.yaml").write_text(text)
    return run(folder, command)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=[one.partition(":")[0] for one in SNIPPETS])
def test_a_snippet_fits_the_spec(folder: Path, snippet: str) -> None:
    """Each one of YAML, in the place of the same sections; the app is another's where dependencies are."""
    ran = changed(folder, snippet, "mahavishnu check --no-app")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_several_workers_fit_the_spec(folder: Path) -> None:
    """The sections of workers and of the collector; what each worker has is told."""
    ran = changed(folder, README["workers"], "mahavishnu check")
    assert ran.returncode == 0, ran.stderr
    assert "limit `reports` has its places in each worker: up to 16 in a replica" in ran.stdout


def test_the_app_runs(folder: Path) -> None:
    """The snippet of the app is whole: it imports, and answers."""
    asked = """
from starlette.testclient import TestClient
with TestClient(app) as client:
    print(client.get("/readyz").status_code, client.get("/nowhere").headers["ratelimit-policy"])
"""
    ran = subprocess.run(
        [sys.executable, "-c", README["app"] + asked], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert '200 "per_client";q=300;w=60' in ran.stdout


def test_a_user_can_test_his_service(folder: Path) -> None:
    """The snippet is a test of the app above it, and passes; with another burst in the spec it fails."""
    (folder / "test_shop.py").write_text(README["app"] + README["tests"])
    passed = run(folder, f"{sys.executable} -m pytest -q test_shop.py")
    assert "1 passed" in passed.stdout, passed.stdout + passed.stderr
    (folder / "mahavishnu.yaml").write_text(README["spec"].replace("burst: 50", "burst: 60"))
    assert "1 failed" in run(folder, f"{sys.executable} -m pytest -q test_shop.py").stdout


def test_a_tool_is_limited(folder: Path) -> None:
    """The snippet is whole but for FastMCP, in whose place its least stands here; the third call is refused."""
    limits = 'limits: {search: {rate: 2/hour, scope: process, match: {tool: "search*"}}}\n'
    assert changed(folder, limits, "mahavishnu check --no-app").returncode == 0
    before = """
import asyncio, sys, types
from starlette.applications import Starlette
class FastMCP:
    def __init__(self, name, auth): ...
    def tool(self, function): return function
    def http_app(self, middleware): return Starlette(middleware=middleware)
sys.modules["fastmcp"] = types.SimpleNamespace(FastMCP=FastMCP)
verifier = None
"""
    asked = """
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
async def called(request):
    await search_products("tea")
    return PlainTextResponse("found")
app.add_route("/", called)
with TestClient(app) as client:
    print([client.get("/").status_code for _ in range(3)])
"""
    code = before + README["tools"].replace("str: ...", "str: return words") + asked
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert "[200, 200, 429]" in ran.stdout, ran.stderr


def test_a_call_that_fails_is_kept(folder: Path) -> None:
    """The snippet is whole: its handler answers 202, and the letter is in the file."""
    parking(folder)
    asked = """
import asyncio
class client:
    async def post(*args, **more):
        raise ConnectionError
print(asyncio.run(handle({"id": "order-7"})))
"""
    ran = subprocess.run(
        [sys.executable, "-c", README["letters"] + asked],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "(202, 'order-7')" in ran.stdout
    shown = run(folder, "mahavishnu dead-letters list --format json")
    assert '"key": "order-7"' in shown.stdout


@pytest.mark.parametrize("target", ["demo", "test", "proof", "bench"])
def test_make_target(target: str) -> None:
    """The Makefile has what README names; the targets' own work is done by what they call."""
    assert f"`make {target}`" in PAGES["README.md"] or f"make {target} " in PAGES["README.md"]
    ran = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def demo() -> str:
    command = [sys.executable, "-m", "examples.shop.demo"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


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
