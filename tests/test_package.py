"""The map in pyproject.toml, and the four ways in which it can lie. Each guard is shown able to fail."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

Map = Mapping[str, Any]


def pyproject(root: Path) -> Map:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def code_folders(root: Path, mapped: Mapping[str, str]) -> dict[str, Path]:
    """Package name -> folder, for every folder under a mapped one that holds Python."""
    found: dict[str, Path] = {}
    for package, folder in mapped.items():
        top = root / folder
        for path in [top, *(p for p in top.rglob("*") if p.is_dir() and p.name != "__pycache__")]:
            if path == top or any(path.glob("*.py")):
                found[".".join((package, *path.relative_to(top).parts))] = path
    return found


def lies_of_the_map(root: Path) -> list[str]:
    setuptools: Map = pyproject(root)["tool"]["setuptools"]
    on_disk = code_folders(root, setuptools["package-dir"])
    listed: list[str] = setuptools["packages"]
    return [
        *(
            f"{name}: no __init__.py, so an editable install misses it"
            for name, path in on_disk.items()
            if not (path / "__init__.py").is_file()
        ),
        *(
            f"{name}: on disk but not in `packages`, so the wheel misses it"
            for name in sorted(on_disk.keys() - listed)
        ),
        *(f"{name}: in `packages` but not on disk" for name in sorted(set(listed) - on_disk.keys())),
    ]


# The top folders, as names: importing one of them loads a second copy of what it holds.
FOLDERS = {"framework", "generators", "templates"}


def literal_imports(root: Path) -> Iterator[str]:
    for folder in (*sorted(FOLDERS), "tests", "examples", "benchmarks"):
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module or ""]
                elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
                    names = [str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)]
                for name in names:
                    if name.partition(".")[0] in FOLDERS:
                        yield f"{path.relative_to(root)}: {name}"


def clean_tree(into: Path) -> Path:
    """The source as a fresh clone has it: a leftover egg-info would hide what `packages` forgets."""
    left_behind = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")
    for folder in sorted(FOLDERS):
        shutil.copytree(ROOT / folder, into / folder, ignore=left_behind)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, into / name)
    return into


def install(tree: Path, scratch: Path) -> Path:
    """Build the wheel of a tree, install it without dependencies, return the interpreter that has it."""
    build: list[str | Path] = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        scratch / "dist",
        tree,
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (scratch / "dist").glob("*.whl")
    venv.create(scratch / "venv", with_pip=False)
    python = scratch / "venv/bin/python"
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        wheel,
    ]
    subprocess.run(pip, check=True, capture_output=True)
    return python


def ask(python: Path, program: str, at: Path) -> subprocess.CompletedProcess[str]:
    """Run a program away from the repository: our dependencies on its path, our editable install not."""
    path = f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [python, "-c", path + program], cwd=at, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("wheel")
    return install(clean_tree(scratch / "tree"), scratch)


# --- the guards -----------------------------------------------------------------------------------


def test_the_map_equals_the_folders() -> None:
    assert lies_of_the_map(ROOT) == []


def test_nobody_imports_a_top_folder_by_its_name() -> None:
    assert list(literal_imports(ROOT)) == []


def test_the_wheel_holds_every_package(wheel: Path, tmp_path: Path) -> None:
    packages = pyproject(ROOT)["tool"]["setuptools"]["packages"]
    program = f"""
from importlib import import_module
from importlib.util import find_spec
import sys
for name in {packages!r}:
    assert find_spec(name), name
    import_module(name)
    assert sys.modules[name].__file__.startswith(sys.prefix), sys.modules[name].__file__
"""
    done = ask(wheel, program, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_every_file(wheel: Path, tmp_path: Path) -> None:
    mapped = pyproject(ROOT)["tool"]["setuptools"]["package-dir"]
    expected = {
        Path(package.replace(".", "/"), path.relative_to(ROOT / folder)).as_posix()
        for package, folder in mapped.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    program = "import importlib.metadata as m; print(*m.files('mahavishnu'), sep='\\n')"
    shipped = set(ask(wheel, program, tmp_path).stdout.splitlines())
    assert expected - shipped == set()
    assert {
        name for name in shipped if name.startswith("mahavishnu/") and "__pycache__" not in name
    } - expected == set()


def test_the_command_is_declared(wheel: Path, tmp_path: Path) -> None:
    done = ask(
        wheel,
        "from importlib.metadata import entry_points as e; e(name='mahavishnu', group='console_scripts')"
        "['mahavishnu'].load()",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_the_locks_start_from_what_the_package_asks_for() -> None:
    lines = (ROOT / "requirements/runtime.in").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == pyproject(ROOT)["project"][
        "dependencies"
    ]


# --- shown able to fail ---------------------------------------------------------------------------


def small_house(at: Path) -> Path:
    files = {
        "framework/mahavishnu/__init__.py": "",
        "framework/mahavishnu/policies/__init__.py": "",
        "generators/__init__.py": "from . import _render",
        "generators/_render.py": "from mahavishnu import policies",
        "templates/__init__.py": "",
        "templates/prometheus/rules.yml.j2": "groups: []",
        "pyproject.toml": """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "mahavishnu"
version = "0"
[tool.setuptools]
packages = ["mahavishnu", "mahavishnu.policies", "mahavishnu.generators", "mahavishnu.templates"]
[tool.setuptools.package-dir]
"mahavishnu" = "framework/mahavishnu"
"mahavishnu.generators" = "generators"
"mahavishnu.templates" = "templates"
""",
    }
    for name, text in files.items():
        path = at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return at


def test_the_small_house_is_clean(tmp_path: Path) -> None:
    small_house(tmp_path)
    assert lies_of_the_map(tmp_path) == []
    assert list(literal_imports(tmp_path)) == []


def test_a_missing_init_is_found(tmp_path: Path) -> None:
    (small_house(tmp_path) / "templates/__init__.py").unlink()
    assert lies_of_the_map(tmp_path) == [
        "mahavishnu.templates: no __init__.py, so an editable install misses it"
    ]


def test_an_unlisted_package_is_found(tmp_path: Path) -> None:
    room = small_house(tmp_path) / "framework/mahavishnu/runtime"
    room.mkdir()
    (room / "__init__.py").touch()
    assert lies_of_the_map(tmp_path) == [
        "mahavishnu.runtime: on disk but not in `packages`, so the wheel misses it"
    ]


def test_a_listed_package_that_is_gone_is_found(tmp_path: Path) -> None:
    shutil.rmtree(small_house(tmp_path) / "framework/mahavishnu/policies")
    assert lies_of_the_map(tmp_path) == ["mahavishnu.policies: in `packages` but not on disk"]


@pytest.mark.parametrize(
    "line",
    [
        "import generators",
        "from generators import grafana",
        "import framework.mahavishnu.spec",
        "def f():\n    from templates import x",
        "import importlib; importlib.import_module('generators.grafana')",
        "__import__('templates')",
    ],
)
def test_a_literal_import_is_found(tmp_path: Path, line: str) -> None:
    (small_house(tmp_path) / "tests").mkdir()
    (tmp_path / "tests/test_x.py").write_text(line, encoding="utf-8")
    (found,) = literal_imports(tmp_path)
    assert found.startswith("tests/test_x.py: ")


def test_a_package_the_wheel_lacks_is_noticed(tmp_path: Path) -> None:
    tree = small_house(tmp_path / "tree")
    room = tree / "framework/mahavishnu/runtime"
    room.mkdir()
    (room / "__init__.py").touch()
    python = install(tree, tmp_path)
    assert ask(python, "import mahavishnu.generators", tmp_path).returncode == 0
    assert "No module named 'mahavishnu.runtime'" in ask(python, "import mahavishnu.runtime", tmp_path).stderr
