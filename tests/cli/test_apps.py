"""Which app `init` finds, and from which folder it would be imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from mahavishnu.cli._apps import AppPlace, apps, home

APP = "from fastapi import FastAPI\napp = FastAPI()\n"
FASTMCP = "from fastmcp import FastMCP\nmcp = FastMCP('x')\n"


def found(home: Path, files: dict[str, str], folder: str | None = None) -> list[AppPlace]:
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text, encoding="utf-8")
    return apps(folder)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project, which is where the person is."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "app"),
    [
        ({"main.py": APP}, AppPlace("main:app", ".")),
        ({"web/main.py": APP}, AppPlace("web.main:app", ".")),
        ({"web/__init__.py": APP}, AppPlace("web:app", ".")),
        ({"src/main.py": APP}, AppPlace("main:app", "src")),
        ({"src/acme/api/main.py": APP}, AppPlace("acme.api.main:app", "src")),
        ({"src/acme/__init__.py": "", "src/acme/main.py": APP}, AppPlace("acme.main:app", "src")),
        ({"src/__init__.py": "", "src/main.py": APP}, AppPlace("src.main:app", ".")),
        ({"src/main.py": f"from src.db import rows\n{APP}"}, AppPlace("src.main:app", ".")),
        ({"backend/app/__init__.py": "", "backend/app/main.py": APP}, AppPlace("app.main:app", "backend")),
        ({"main.py": APP, "docs/a/b/example.py": APP}, AppPlace("main:app", ".")),
        (
            {"main.py": APP, "tests/app.py": APP, ".venv/x.py": APP, "my-docs/x.py": APP},
            AppPlace("main:app", "."),
        ),
        ({"latest.py": APP, "test_main.py": APP, "conftest.py": APP}, AppPlace("latest:app", ".")),
        ({"main.py": APP, "broken.py": "def ("}, AppPlace("main:app", ".")),
    ],
)
def test_it_is_found_wherever_a_project_has_it(project: Path, files: dict[str, str], app: AppPlace) -> None:
    """The nearest one; a module is named as Python would import it."""
    assert found(project, files) == [app]


@pytest.mark.parametrize(
    "text",
    [
        "app: FastAPI = FastAPI()",
        "app = fastapi.FastAPI(\n    title='x',\n)",
        "app = Starlette()\napp = Starlette(debug=True)",
        "app = create_app()",
        f"{FASTMCP}app = mcp.http_app(path='/mcp')",
        f"{FASTMCP}tools = mcp.http_app()\napp = FastAPI(lifespan=tools.lifespan)\napp.mount('/mcp', tools)",
        "inner = Starlette()\napp = Starlette(routes=[Mount('/a', app=inner)])",
        "def make():\n    return FastAPI()\n\napp = make()",
    ],
)
def test_what_is_an_app(project: Path, text: str) -> None:
    """Of FastAPI, Starlette and FastMCP, or of a factory beside it; one inside of another is a part of it."""
    assert found(project, {"main.py": text}) == [AppPlace("main:app", ".")]


@pytest.mark.parametrize(
    "text",
    [
        "def make():\n    return FastAPI()",
        "def make(debug=False, *, name='x'):\n    app = FastAPI()\n    return app",
        "def make() -> 'fastapi.FastAPI':\n    return build(1)",
        "def make():\n    if DEBUG:\n        return Starlette(debug=True)\n    return build()",
        f"{FASTMCP}def make():\n    with setup():\n        app = mcp.http_app()\n    return app",
    ],
)
def test_what_is_a_factory(project: Path, text: str) -> None:
    """A function that needs nothing, and of which an app comes."""
    assert found(project, {"main.py": text}) == [AppPlace("main:make", ".")]


@pytest.mark.parametrize(
    "text",
    [
        "def make(settings):\n    return FastAPI()",
        "def make(*, settings):\n    return FastAPI()",
        "def make():\n    app = FastAPI()\n    return app.title",
        "def make():\n    def inner():\n        return FastAPI()\n    return inner",
        "async def make():\n    return FastAPI()",
        "app = Flask()",
        "def f():\n    app = FastAPI()",
        FASTMCP,
    ],
)
def test_what_is_neither(project: Path, text: str) -> None:
    """What needs an argument, or makes something else."""
    assert found(project, {"main.py": text}) == []


def test_a_factory_counts_only_where_there_is_no_app(project: Path) -> None:
    """What is made of it is meant."""
    assert found(project, {"a.py": "def create_app():\n    return 1", "b.py": APP}) == [
        AppPlace("b:app", ".")
    ]


def test_a_folder_that_is_named_is_where_modules_are_found(project: Path) -> None:
    """Whatever packages look like."""
    files = {"app/__init__.py": "", "app/web/__init__.py": "", "app/web/main.py": APP}
    assert found(project, files, "app") == [AppPlace("web.main:app", "app")]


def test_of_an_app_that_is_named_the_folder_is_found(project: Path) -> None:
    """Where its module lies in `src`, and not here."""
    found(project, {"src/acme/main.py": APP, "src/one.py": APP, "src/both.py": APP, "both.py": APP})
    assert [home(f"{name}:app") for name in ("acme.main", "one", "both", "nowhere")] == [
        "src",
        "src",
        ".",
        ".",
    ]
