"""Every generated page as a reader sees it: rendered from Markdown, laid out by a real browser at a reader's width."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tests.figures import figure
from tests.judges import judge
from tests.pages import MARKDOWN

pytestmark = [pytest.mark.proof, pytest.mark.judge]

PAGES = Path(__file__).parents[1] / "examples/shop/deploy/runbooks"
# As calm a reading page as there is: what runs out of it here does so everywhere.
LOOK = """
body { font: 16px/1.5 sans-serif; margin: 0; } section { width: 900px; padding: 20px; border-bottom: 1px solid; }
pre { background: #eee; padding: 8px; overflow-x: auto; } code { overflow-wrap: anywhere; }
"""
# What is asked of each section: what runs out of it to the right, what is there, and what is not seen at all.
MEASURE = """
const told = {};
const wide = one => getComputedStyle(one).display != 'inline' && one.scrollWidth > one.clientWidth;
for (const page of document.querySelectorAll('section')) {
  const edge = page.getBoundingClientRect().right;
  const seen = [...page.querySelectorAll('*')].map(one => [one, one.getBoundingClientRect()]);
  const prose = page.cloneNode(true);
  prose.querySelectorAll('code').forEach(one => one.remove());
  told[page.id] = {
    outside: seen.filter(([one, box]) => !one.closest('pre') && (box.right > edge || wide(one)))
      .map(([one]) => one.outerHTML),
    unseen: seen.filter(([one, box]) => one.textContent.trim() && !box.height).map(([one]) => one.outerHTML),
    text: prose.textContent,
    headings: [...page.querySelectorAll('h1, h2')].map(one => one.textContent),
    commands: [...page.querySelectorAll('pre')].map(one => one.textContent),
    links: [...page.querySelectorAll('a')].map(one => one.getAttribute('href')),
    items: page.querySelectorAll('li').length,
  };
}
const out = document.createElement('pre');
out.id = 'told';
out.textContent = JSON.stringify(told);
out.hidden = true;
document.body.append(out);
"""
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--hide-scrollbars")  # fmt: skip
# What Markdown looks like where it was not taken for Markdown.
RAW = re.compile(r"\*\*|\]\(|^#+ |^ {4}\S|<!--", re.MULTILINE)
PARTS = ("Meaning", "Impact", "Diagnosis", "Mitigation")


def browser(folder: Path) -> list[str | Path]:
    """Its command, with a profile of its own and a window of a reader's size."""
    return [judge("chromium"), *QUIET, f"--user-data-dir={folder / 'browser'}", "--window-size=1000,1400"]


def written(pages: Mapping[str, str], folder: Path) -> Path:
    """One file of HTML with every page, and what measures them."""
    sections = "".join(
        f'<section id="{name}">{MARKDOWN.render(text)}</section>' for name, text in pages.items()
    )
    file = folder / "pages.html"
    file.write_text(
        f"<!doctype html><meta charset=utf-8><style>{LOOK}</style>{sections}<script>{MEASURE}</script>"
    )
    return file


def browsed(pages: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """What a browser says of each page, by its name."""
    command = [*browser(folder), "--dump-dom", written(pages, folder).as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    (found,) = re.findall(r'<pre id="told" hidden="">(.*?)</pre>', done.stdout, re.DOTALL)
    told: dict[str, Any] = json.loads(unescape(found))
    return told


def faults(name: str, page: str, told: dict[str, Any]) -> list[str]:
    """What a reader would stumble over."""
    found = [f"runs out of the page: {one}" for one in told["outside"]]
    found += [f"is not seen: {one}" for one in told["unseen"]]
    found += [f"reads as Markdown: {one!r}" for one in RAW.findall(told["text"])]
    if told["headings"][:1] != re.findall(r"^# (.*)", page, re.MULTILINE):
        found.append(f"its title is {told['headings'][:1]}")
    if name.startswith("Shop") and not {*PARTS} <= {*told["headings"]}:
        found.append(f"its parts are {told['headings'][1:]}")
    if [line.strip() for block in told["commands"] for line in block.splitlines() if line.strip()] != typed(
        page
    ):
        found.append("its commands are others")
    found += [
        f"links {link}" for link in told["links"]
        if not link.startswith(("http://", "https://")) and not (PAGES / link.split("#")[0]).is_file()
    ]  # fmt: skip
    return found


def typed(page: str) -> list[str]:
    """The lines of its blocks of code, fenced or indented, in the order in which they are read."""
    blocks = re.findall(r"^```\w*\n((?s:.*?))^```|^ {4,}(\S.*)", page, re.MULTILINE)
    return [line for fenced, indented in blocks for line in (fenced or indented).splitlines()]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Every page of the shop, by its name."""
    return {path.stem: path.read_text() for path in sorted(PAGES.glob("*.md"))}


def test_every_page_reads_well(pages: dict[str, str], tmp_path: Path) -> None:
    """Nothing runs out of the page or is unseen; its title, parts, commands and links are those that were written."""
    told = browsed(pages, tmp_path)
    wrong = {name: found for name, page in pages.items() if (found := faults(name, page, told[name]))}
    figure("generated pages, laid out by a browser, without a fault", len(pages), len(pages) - len(wrong))
    assert wrong == {}
    assert sum(one["items"] for one in told.values()) > len(pages)


BREAKS = {
    "runs out of the page": ("## Meaning\n", f"## Meaning\n\n{'long' * 50}\n"),
    "is not seen": ("## Impact\n", "<p style='height:0'>an impact</p>\n\n## Impact\n"),
    "reads as Markdown": ("- **Severity**:", "- ** Severity **:"),
    "its title": ("# ShopDown", "#ShopDown"),
    "its parts": ("## Mitigation", "##Mitigation"),
    "its commands": ("\n\n    job:up:max{", "\n    job:up:max{"),
    "links": ("](<https://", "](<ftp://"),
}


def test_a_page_that_is_broken_is_found(pages: dict[str, str], tmp_path: Path) -> None:
    """The test above can fail, by each of its questions."""
    whole = pages["ShopDown"]
    broken = {f"Shop{number}": whole.replace(*change) for number, change in enumerate(BREAKS.values())}
    assert whole not in broken.values()
    told = browsed(broken, tmp_path)
    for (fault, _), (name, page) in zip(BREAKS.items(), broken.items(), strict=True):
        found = faults(name, page if fault != "its title" else whole, told[name])
        assert any(one.startswith(fault) for one in found), fault


def test_the_picture_is_one_of_a_page(pages: dict[str, str], tmp_path: Path) -> None:
    """Dark on light, from top to bottom: more than a blank window has."""
    sizes = {
        name: picture(pages[name], tmp_path / name).stat().st_size for name in ("ShopDown", "maintenance")
    }
    blank = picture("", tmp_path / "blank").stat().st_size
    assert min(sizes.values()) > 10 * blank


def picture(page: str, folder: Path) -> Path:
    """A page as a browser draws it."""
    folder.mkdir()
    told = written({"page": page}, folder)
    drawn = folder / "page.png"
    subprocess.run(
        [*browser(folder), f"--screenshot={drawn}", told.as_uri()], check=True, capture_output=True
    )
    return drawn
