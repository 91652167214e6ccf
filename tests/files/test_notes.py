"""What people write between the marks of a page outlives every generation; a byte elsewhere is an edit, and refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mahavishnu.artifact import Artifact
from mahavishnu.compile import OverwriteError, drift, write
from mahavishnu.files.lock import LOCK
from mahavishnu.files.notes import BEGIN, END, blank, carried, written
from mahavishnu.survey import Drift, Kind

HEAD, TAIL = "# ShopDown\n\nIt is down.\n\n## Notes\n", "\nThe end.\n"


def page(head: str = HEAD, tail: str = TAIL) -> str:
    return f"{head}\n{BEGIN}\n{END}\n{tail}"


OLD = (Artifact("runbooks/ShopDown.md", page()), Artifact("runbooks/README.md", "# Index\n"))
NEW = (Artifact("runbooks/ShopDown.md", page("# ShopDown\n\nIt does not answer.\n")), OLD[1])
WORDS = b"\nLook at the cache first: it was that the last time.\n"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder of generated pages, into one of which somebody has written something."""
    write(tmp_path / "deploy", OLD, "old")
    file = tmp_path / "deploy/runbooks/ShopDown.md"
    file.write_bytes(carried(file.read_bytes(), WORDS))
    return tmp_path / "deploy"


def noted(out: Path) -> bytes:
    return (out / "runbooks/ShopDown.md").read_bytes()


def test_notes_are_no_drift(out: Path) -> None:
    """Neither are they one, nor are they lost when nothing else has changed."""
    assert WORDS in noted(out)
    assert drift(out, OLD, "old") == ()
    assert write(out, OLD, "old").changed == ()
    assert WORDS in noted(out)


def test_notes_are_kept_when_the_page_changes(out: Path) -> None:
    """The page is stale and written anew, the notes are the same, and the lock does not know of them."""
    assert {one.path: one.kind for one in drift(out, NEW, "new")} == {
        "runbooks/ShopDown.md": Kind.STALE,
        LOCK: Kind.STALE,
    }
    assert write(out, NEW, "new").changed == ("runbooks/ShopDown.md",)
    assert b"It does not answer." in noted(out)
    assert written(noted(out)) == WORDS
    assert drift(out, NEW, "new") == ()
    lock = (out / LOCK).read_bytes()
    write(out.parent / "fresh", NEW, "new")
    assert (out.parent / "fresh" / LOCK).read_bytes() == lock


def test_a_hundred_edits_outside_are_refused_and_inside_kept(out: Path) -> None:
    """Whatever byte of the page is changed: between the marks it is a note, anywhere else an edit."""
    generator, content = random.Random(5), noted(out)
    start, end = content.index(WORDS), content.index(WORDS) + len(WORDS)
    kept = 0
    for _ in range(200):
        place = generator.randrange(len(content))
        other = bytes([content[place] ^ 1 << generator.randrange(8)])
        changed = content[:place] + other + content[place + 1 :]
        (out / "runbooks/ShopDown.md").write_bytes(changed)
        # The line break before the second mark is that mark's own, and the one after the first that one's.
        if start < place < end:
            assert write(out, OLD, "old").changed == ()
            kept += 1
        elif not start <= place <= end:
            with pytest.raises(OverwriteError):
                write(out, NEW, "new")
        assert noted(out) == changed
    assert 10 < kept < 150


@pytest.mark.parametrize("gone", [BEGIN, END])
def test_a_page_without_a_mark_is_an_edit(out: Path, gone: str) -> None:
    """Nobody's words are taken for ours, or ours for theirs."""
    file = out / "runbooks/ShopDown.md"
    file.write_bytes(noted(out).replace(gone.encode(), b"<!-- -->"))
    with pytest.raises(OverwriteError):
        write(out, NEW, "new")
    assert WORDS in noted(out)


def refused(out: Path, wanted: tuple[Artifact, ...], force: bool) -> tuple[Drift, ...]:
    """What is in the way of a run, which changes nothing."""
    before = noted(out)
    with pytest.raises(OverwriteError) as refusal:
        write(out, wanted, "new", force=force)
    assert noted(out) == before
    return refusal.value.drifts


@pytest.mark.parametrize("force", [False, True])
def test_a_page_with_notes_is_not_thrown_away(out: Path, force: bool) -> None:
    """When its alert is gone the page is an obstacle, not litter; who does not want it removes it."""
    (found,) = refused(out, OLD[1:], force)
    assert (found.kind, found.path) == (Kind.NOTED, "runbooks/ShopDown.md")
    assert "git mv" in found.diff
    assert WORDS.decode().strip() in found.diff  # what would be lost, and not what was generated
    assert "It is down." not in found.diff
    assert found in drift(out, OLD[1:], "new")
    (out / "runbooks/ShopDown.md").unlink()
    write(out, OLD[1:], "new", force=force)
    assert drift(out, OLD[1:], "new") == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n", b"\r\n"),
        (END.encode(), END.encode() + b" "),
        (BEGIN.encode(), BEGIN.encode() + b"\t"),
        (f"{END}\n{TAIL}".encode(), END.encode()),
    ],
)
def test_notes_outlive_what_tools_do_to_the_ends_of_lines(out: Path, old: bytes, new: bytes) -> None:
    """Of Windows, blanks that an editor leaves, a last line break that it takes: an edit whose notes are kept."""
    file = out / "runbooks/ShopDown.md"
    assert old in noted(out)
    file.write_bytes(noted(out).replace(old, new))
    with pytest.raises(OverwriteError):
        write(out, NEW, "new")
    write(out, NEW, "new", force=True)
    assert written(noted(out)).split() == WORDS.split()
    assert blank(noted(out)) == NEW[0].text.encode()
    assert drift(out, NEW, "new") == ()


@pytest.mark.parametrize("gone", [BEGIN, END])
def test_by_force_notes_are_not_lost_with_their_marks(out: Path, gone: str) -> None:
    """What is a note cannot be told any more: it is left to who wrote it."""
    file = out / "runbooks/ShopDown.md"
    file.write_bytes(noted(out).replace(gone.encode(), b"<!-- -->"))
    for force in (False, True):
        (found,) = refused(out, NEW, force)
        assert (found.kind, found.path) == (Kind.NOTED, "runbooks/ShopDown.md")
        assert "put it back" in found.diff
    file.write_bytes(b"")
    write(out, NEW, "new", force=True)  # of a page that is empty nothing can be lost


@pytest.mark.parametrize("force", [False, True])
def test_a_template_without_marks_loses_no_notes(out: Path, force: bool) -> None:
    """Whoever writes a page anew cannot know of the marks: he is told, before it costs what others have written."""
    bare = (Artifact("runbooks/ShopDown.md", "# Mine\n"), OLD[1])
    (found,) = refused(out, bare, force)
    assert found.kind is Kind.NOTED
    assert "`{{ begin }}` and `{{ end }}`" in found.diff
    assert WORDS.decode().strip() in found.diff
    assert found in drift(out, bare, "new")
    (out / "runbooks/ShopDown.md").write_bytes(blank(noted(out)))
    assert write(out, bare, "new").changed == ("runbooks/ShopDown.md",)  # nobody has written anything


def test_a_page_that_got_a_new_name_takes_its_notes_along(out: Path) -> None:
    """Moved there by hand it is still what was generated, though at another place: no force is needed."""
    renamed = (Artifact("runbooks/StoreDown.md", NEW[0].text), OLD[1])
    refused(out, renamed, force=False)
    (out / "runbooks/ShopDown.md").rename(out / "runbooks/StoreDown.md")
    assert write(out, renamed, "new").changed == ("runbooks/StoreDown.md",)
    moved = (out / "runbooks/StoreDown.md").read_bytes()
    assert (written(moved), blank(moved)) == (WORDS, NEW[0].text.encode())
    assert drift(out, renamed, "new") == ()


def test_blank_lines_are_no_notes(out: Path) -> None:
    """A line break that an editor left between the marks keeps no page alive."""
    file = out / "runbooks/ShopDown.md"
    file.write_bytes(carried(noted(out), b"\n \n"))
    assert write(out, OLD[1:], "new").removed == ("runbooks/ShopDown.md",)


def test_a_page_without_notes_goes_with_its_alert(tmp_path: Path) -> None:
    """As every other file does."""
    write(tmp_path, OLD, "old")
    assert write(tmp_path, OLD[1:], "new").removed == ("runbooks/ShopDown.md",)


def test_marks_in_another_file_are_an_edit(out: Path) -> None:
    """What is generated without a place for notes has none: rules cannot be smuggled into it."""
    file = out / "runbooks/README.md"
    file.write_text(f"# Index\n\n{BEGIN}\nmine\n{END}\n")
    with pytest.raises(OverwriteError):
        write(out, OLD, "old")


notes = st.lists(
    st.sampled_from([BEGIN, END, "", "a", "# ShopDown", "\r", TAIL]) | st.text(max_size=9), max_size=6
)


@given(notes.map("\n".join))
@example(f"\n{END}\nmine\n{END}")
@example(f"\n{BEGIN}\n")
def test_notes_may_hold_anything(text: str) -> None:
    """The marks themselves, other line ends, nothing: they come back as they were."""
    mine = ("\n" + text).encode() if text else b""
    full = carried(page().encode(), mine)
    assert written(full) == mine
    assert blank(full) == page().encode()
    assert carried(NEW[0].text.encode(), written(full)) == carried(NEW[0].text.encode(), mine)
