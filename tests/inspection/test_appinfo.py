"""An app is looked at in a process of its own, and whatever it does there is a sentence here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mahavishnu import checks
from mahavishnu.cli import run
from mahavishnu.errors import Problem
from mahavishnu.inspection import appinfo, children
from mahavishnu.spec import Service

APP = """
from starlette.applications import Starlette
from starlette.routing import Mount, Route

async def page(request): ...

app = Starlette(routes=[Route("/login", page, methods=["POST"]), Mount("/shop", routes=[Route("/{id}", page)])])
bare = Starlette()
number = 7
"""


def looked(folder: Path, text: str, app: str = "main:app") -> checks.App | Problem:
    """What is known of an app that lies beside a spec."""
    (folder / "main.py").write_text(text, encoding="utf-8")
    return appinfo.look(Service(name="shop", app=app), folder / "mahavishnu.yaml")


def routes_of(said: checks.App | Problem) -> checks.Routes:
    """Of an app that was looked at."""
    assert not isinstance(said, Problem), said.what
    return said.routes


def test_routes_are_templates_with_methods_mounted_ones_included(tmp_path: Path) -> None:
    """As the app's own router has them."""
    assert routes_of(looked(tmp_path, APP)) == (
        ("/login", frozenset({"POST"})),
        ("/shop/{id}", frozenset({"GET", "HEAD"})),
    )


@pytest.mark.parametrize("wrap", ["Hardening(app)", "CORSMiddleware(Hardening(app, identify=print))"])
def test_middlewares_around_an_app_hide_nothing(tmp_path: Path, wrap: str) -> None:
    """As where a hook is given to the middleware itself."""
    text = f"{APP}\nfrom mahavishnu.asgi import Hardening\n"
    text += f"from starlette.middleware.cors import CORSMiddleware\nwrapped = {wrap}\n"
    wrapped = looked(tmp_path, text, "main:wrapped")
    assert routes_of(wrapped) == routes_of(looked(tmp_path, APP))


def test_a_factory_is_asked_as_uvicorn_asks_it(tmp_path: Path) -> None:
    """The generated command starts what it makes."""
    assert looked(tmp_path, f"{APP}\ndef create(debug=False): return app\n", "main:create") == looked(
        tmp_path, APP
    )


@pytest.mark.parametrize("app", ["bare", "alien"])
def test_an_app_may_have_no_routes(tmp_path: Path, app: str) -> None:
    """None yet, or none that anybody can know: Django's app is a function."""
    alien = "async def alien(scope, receive, send): ...\n"
    assert routes_of(looked(tmp_path, APP + alien, f"main:{app}")) == ()


def test_an_app_may_print_what_it_likes(tmp_path: Path) -> None:
    """Only the last line is ours."""
    assert looked(tmp_path, APP + "print('[]')\nprint('hello')\n") == looked(tmp_path, APP)


@pytest.mark.parametrize(
    ("text", "app", "says"),
    [
        ("1 / 0", "main:app", "ZeroDivisionError: division by zero"),
        (APP, "main:nothing", "AttributeError"),
        (APP, "elsewhere:app", "ModuleNotFoundError: No module named 'elsewhere'"),
        (APP, "main:number", "it is no ASGI app, for it cannot be called"),
        (
            "def app(environ, start_response): ...",
            "main:app",
            "it is no ASGI app, for it takes (environ, start_response), not (scope, receive, send)",
        ),
        ("def make(settings): ...", "main:make", "it takes (settings), not (scope, receive, send)"),
        ("def make(): return lambda scope: None", "main:make", "it takes (scope), not"),
        (
            "class Flask:\n def __call__(self, environ, start_response): ...\napp = Flask()",
            "main:app",
            "it takes (environ, start_response), not",
        ),
        ("import os; os._exit(3)", "main:app", "it ended with exit code 3"),
        ("import os; os._exit(0)", "main:app", "it ended before its routes were known"),
        ("import os; print('[3]', flush=True); os._exit(0)", "main:app", "before its routes were known"),
        ("raise SystemExit('no database')", "main:app", "SystemExit: no database"),
        (
            "raise OSError('no database\\n(Background on this error at: https://…)')",
            "main:app",
            "OSError: no database",
        ),
        ("def", "main:app", "SyntaxError"),
    ],
)
def test_what_goes_wrong_is_the_first_line_of_it(tmp_path: Path, text: str, app: str, says: str) -> None:
    """No traceback; the place is `service.app`."""
    problem = looked(tmp_path, text, app)

    assert isinstance(problem, Problem)
    assert says in problem.what
    assert problem.path == ("service", "app")
    assert "\n" not in problem.what


NAMED, OWN, PACKAGE, MAIN = (
    "correct `service.app`",
    "that is its own code",
    "install it",
    "what starts a server",
)


@pytest.mark.parametrize(
    ("text", "app", "help"),
    [
        ("import os; os.environ['DATABASE_URL']", "main:app", OWN),
        ("raise SystemExit('no config file')", "main:app", OWN),
        ("def make(): return {}['a']", "main:make", OWN),
        ("import os; os._exit(3)", "main:app", OWN),
        ("import os; os._exit(0)", "main:app", MAIN),
        ("import nobody_has_this", "main:app", PACKAGE),
        (APP, "main.web:app", NAMED),
        (APP, "elsewhere.main:app", NAMED),
        (APP, "main:nothing", NAMED),
        (APP, "main:number", NAMED),
    ],
)
def test_what_is_at_fault_is_what_is_advised(tmp_path: Path, text: str, app: str, help: str) -> None:
    """The name is to be corrected only where it leads to no app; without the app itself it goes, too."""
    problem = looked(tmp_path, text, app)

    assert isinstance(problem, Problem)
    assert problem.help.startswith(help)
    assert problem.help.endswith("; `check --no-app` does without it")


def test_what_makes_an_app_is_told_from_one(tmp_path: Path) -> None:
    """A server of tools is no app, and has a method that makes one."""
    text = "class FastMCP:\n def http_app(self): ...\nmcp = FastMCP()\n"
    problem = looked(tmp_path, text, "main:mcp")

    assert isinstance(problem, Problem)
    assert problem.what.endswith("it cannot be called: name what `mcp.http_app()` makes")


def test_an_app_says_how_a_middleware_is_put_around_it(tmp_path: Path) -> None:
    """By a method that most of them have."""
    added = looked(tmp_path, APP)
    wrapped = looked(tmp_path, "async def app(scope, receive, send): ...\n")

    assert not isinstance(added, Problem)
    assert not isinstance(wrapped, Problem)
    assert (added.adds, wrapped.adds) == (True, False)


def test_an_app_that_never_ends_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After twenty seconds; here, after a moment."""
    monkeypatch.setattr(appinfo, "_SECONDS", 0.2)

    problem = looked(tmp_path, "while True: pass")

    assert isinstance(problem, Problem)
    assert "longer than" in problem.what
    assert problem.help.startswith(MAIN)


@pytest.mark.parametrize(("text", "found"), [(APP, 2), ("raise OSError('no database')\n", 0)])
def test_a_thread_that_never_ends_holds_nobody(tmp_path: Path, text: str, found: int) -> None:
    """An app may start one when it is imported, and a process waits for its threads."""
    begun = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"

    said = looked(tmp_path, begun + text)

    assert "no database" in said.what if isinstance(said, Problem) else len(said.routes) == found


def test_the_app_finds_its_own_spec_and_folder(tmp_path: Path) -> None:
    """Its dependencies read the spec at import: the one that is being checked."""
    (tmp_path / "src").mkdir()
    text = "import os, pathlib\nassert os.environ['MAHAVISHNU_SPEC'].endswith('mahavishnu.yaml')\n"
    text += "assert pathlib.Path('src').is_dir()\n"
    (tmp_path / "src/shop.py").write_text(text + APP, encoding="utf-8")

    found = appinfo.look(Service(name="shop", app="shop:app", app_dir="src"), tmp_path / "mahavishnu.yaml")

    assert len(routes_of(found)) == 2


SPEC = """
mahavishnu: 1
service: {name: shop, app: "main:app"}
dependencies: {bank: {timeout: 2s}}
limits: {login: {rate: 5/minute, match: {path: /signin}}}
deploy: {replicas: {min: 3, max: 3}}
environments: {local: {dependencies: {bank: null}, limits: {login: null}}}
"""


def test_a_spec_that_contradicts_itself_hides_no_routes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The app reads that spec when it is imported, and would refuse to start; all mistakes are told in one run."""
    (tmp_path / "mahavishnu.yaml").write_text(SPEC, encoding="utf-8")
    (tmp_path / "main.py").write_text(
        "import mahavishnu\nmahavishnu.dependency('bank')\n" + APP, encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAHAVISHNU_ENV", "local")  # of this shell
    assert run(["check", "--format", "concise"]) == 1
    told = [line for line in capsys.readouterr().err.splitlines() if "error[" in line]
    assert [line.partition("[")[2][:5] for line in told] == ["MV201", "MV404", "MV406"]
    assert "no dependency `bank`" in told[2]
    assert "(environment `local`)" in told[2]


def test_what_stands_around_an_app_is_seen(tmp_path: Path) -> None:
    """As `standing` sees it, in the process in which the app was imported."""
    text = """
from mahavishnu.asgi import Hardening
from starlette.middleware.cors import CORSMiddleware
app.add_middleware(Hardening)
app.add_middleware(CORSMiddleware)
"""
    seen = looked(tmp_path, APP + text)

    assert isinstance(seen, checks.App)
    assert (seen.where, seen.outside, seen.mounts) == ("around", ("CORSMiddleware",), ())
    assert seen.cors == ()


@pytest.mark.parametrize(
    "hardened", ["", "from mahavishnu.asgi import Hardening\napp.add_middleware(Hardening)\n"]
)
def test_a_cors_middleware_in_what_the_app_has_mounted_is_seen(tmp_path: Path, hardened: str) -> None:
    """With the path at which its app is; also where another file puts Hardening around it."""
    text = f"""
from starlette.middleware.cors import CORSMiddleware
app.mount("/api", CORSMiddleware(bare))
{hardened}"""
    seen = looked(tmp_path, APP + text)

    assert isinstance(seen, checks.App)
    assert seen.cors == ("/api",)


LATER = """
def hardened(app):
    from mahavishnu.asgi import Hardening
    return Hardening(app)

shop = Starlette()
shop.add_middleware(hardened)
whole = Starlette(routes=[Mount("/shop", shop)])
"""


@pytest.mark.parametrize(
    ("app", "where", "mounts"),
    [("shop", "around", ()), ("whole", "mounted", ("/shop",)), ("app", "nowhere", ())],
)
def test_what_is_loaded_when_the_server_starts_is_seen(
    app: str, where: str, mounts: tuple[str, ...], tmp_path: Path
) -> None:
    """A function that makes the middleware may import it first."""
    seen = looked(tmp_path, APP + LATER, f"main:{app}")

    assert isinstance(seen, checks.App)
    assert (seen.where, seen.mounts) == (where, mounts)


@pytest.mark.parametrize("spec", ["{}", "{pay: {timeout: 1s}}"])
def test_what_is_named_is_seen_though_the_spec_has_it_not(spec: str, tmp_path: Path) -> None:
    """Tools are told all at once; a dependency that nothing describes cannot guard anything."""
    text = f"mahavishnu: 1\nservice: {{name: shop, app: 'main:app'}}\ndependencies: {spec}\n"
    (tmp_path / "mahavishnu.yaml").write_text(text, encoding="utf-8")
    calls = "pay = dependency('pay')" if "pay" in spec else ""
    naming = "from mahavishnu import dependency, limit\nadd, find = limit(tool='add'), limit(tool='find')\n"
    seen = looked(tmp_path, f"{APP}{naming}{calls}\n")

    assert isinstance(seen, checks.App)
    assert seen.tools == ("add", "find")
    assert seen.dependencies == (("pay",) if "pay" in spec else ())


def test_plain_functions_are_named_with_their_tools(tmp_path: Path) -> None:
    """All of them, whether their limits can be asked or not: the app is seen to its end."""
    text = "mahavishnu: 1\nservice: {name: shop, app: 'main:app'}\n"
    spec = f"{text}store: redis://cache:6379\nlimits: {{a: {{rate: 5/minute, match: {{tool: '*'}}}}}}\n"
    (tmp_path / "mahavishnu.yaml").write_text(spec, encoding="utf-8")
    calls = "@limit(tool='add')\ndef add(): ...\n@limit(tool='find')\nasync def find(): ...\n"
    seen = looked(tmp_path, f"from mahavishnu import limit\n{calls}{APP}")

    assert isinstance(seen, checks.App)
    assert seen.plain == (("add", "main.add"),)
    assert seen.tools == ("add", "find")


NAMING = """
import asyncio, contextlib
from mahavishnu import dependency, limit
bank, post = dependency("bank"), dependency("post_office")
client = bank.httpx_client()

@bank(idempotent=True)
async def ask(): return 7

assert asyncio.run(ask()) == 7
with post, limit(tool="search"): pass
"""


def test_before_there_is_a_spec_an_app_may_name_what_it_likes(tmp_path: Path) -> None:
    """Dependencies and tools, in every form, and calls at import: what `init` has to write."""
    (tmp_path / "main.py").write_text(NAMING + APP, encoding="utf-8")
    seen = appinfo.unwritten(Service(name="shop", app="main:app"), tmp_path / "mahavishnu.yaml")

    named: dict[str, Any] = {"dependencies": ("bank", "post_office"), "tools": ("search",)}
    assert seen == checks.App(routes_of(looked(tmp_path, APP)), "nowhere", **named)


@pytest.mark.parametrize(("name", "better"), [("Bank", "bank"), ("a__b", "a_b"), ("x" * 41, "x" * 40)])
def test_what_no_spec_can_name_is_told_before_one_is_written(
    name: str,
    better: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a sentence, and nothing is written."""
    (tmp_path / "main.py").write_text(
        f"import mahavishnu\nmahavishnu.dependency({name!r})\n{APP}", encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    assert run(["init", "--app", "main:app"]) == 2
    said = f"no spec can have the dependency `{name}`: call it `{better}` in the code"
    assert said in capsys.readouterr().err
    assert not (tmp_path / "mahavishnu.yaml").exists()


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("Bank", "Post"), "`Bank`: call it `bank` in the code, nor the dependency `Post`: call it `post`"),
        (("Bank", "bank"), "no spec can have the dependency `Bank`: call it `bank` in the code"),
        (("a_b", "ab"), "no spec can have the dependency `ab`: call it `ab_2` in the code"),
    ],
)
def test_all_names_that_no_spec_can_have_are_told_at_once(
    names: tuple[str, str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also one that nobody could tell from another."""
    naming = "".join(f"mahavishnu.dependency({name!r})\n" for name in names)
    (tmp_path / "main.py").write_text(f"import mahavishnu\n{naming}{APP}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run(["init", "--app", "main:app"]) == 2
    assert says in capsys.readouterr().err


def test_the_app_of_all_environments_is_looked_at_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here each import waits for the others, which one after the other would never begin."""
    monkeypatch.setattr(appinfo, "ran", children.ran)
    monkeypatch.chdir(tmp_path)
    waits = "import os, pathlib, time\n"
    waits += "pathlib.Path('in_' + os.environ.get('MAHAVISHNU_ENV', '')).touch()\n"
    waits += "while len([*pathlib.Path().glob('in_*')]) < 3: time.sleep(0.01)\n"
    (tmp_path / "main.py").write_text(waits + APP, encoding="utf-8")
    text = "mahavishnu: 1\nservice: {name: shop, app: main:app, hardening: elsewhere}\nenvironments: {a: {}, b: {}}\n"
    (tmp_path / "mahavishnu.yaml").write_text(text, encoding="utf-8")

    code = run(["check"])

    assert (code, "longer than" in capsys.readouterr().out) == (0, False)
