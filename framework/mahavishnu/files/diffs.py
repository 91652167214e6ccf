"""What differs between two texts, for a person: every line shown as a line, and what cannot be seen spelled out."""

from __future__ import annotations

_BREAKS = (
    "only its line breaks differ, as after a checkout on Windows: write `* -text` into a .gitattributes\n"
)


def diff(path: str, before: bytes, after: bytes) -> str:
    """A unified diff; one sentence where nothing but line breaks differs."""
    import difflib  # only where there is something to tell

    if before != after and before.replace(b"\r\n", b"\n") == after.replace(b"\r\n", b"\n"):
        return _BREAKS
    old, new = (visible(content) for content in (before, after))
    return "".join(
        f"{line}\n" for line in difflib.unified_diff(old, new, f"a/{path}", f"b/{path}", lineterm="")
    )


def visible(content: bytes) -> list[str]:
    """The lines of a text, without anything that a terminal would carry out."""
    lines = content.decode("utf-8", "backslashreplace").split("\n")
    shown = ["".join(char if char.isprintable() else repr(char)[1:-1] for char in line) for line in lines]
    return shown[:-1] if not shown[-1] else [*shown[:-1], shown[-1] + "  (no line break at the end)"]
