"""Sixty-four strings that break careless writers of YAML, JSON, shell, PromQL and templates."""

from __future__ import annotations

HOSTILE: tuple[str, ...] = (
    # what YAML takes for something else: booleans, nothing, numbers, dates, merge keys
    "", " ", "~", "null", "Null", "yes", "No", "on", "OFF", "y", "N", "true", "False", "=", "<<",
    "0", "-1", "007", "0o17", "0x1F", "0b11", "1_000", "1e5", "1.5", "-.5", ".inf", ".NaN", "12:30:45",
    "2001-01-01",
    # what YAML takes for structure
    "a: b", "- a", "? a", "a #b", "#a", "[a", "{a: b}", "a]", "&a", "*a", "!a", "!!int 3", "|", "> x",
    "%YAML 1.1", "@a", "`a`", "---", "...", "a:", "'", '"', "it's \"both\"", "\\", "\\x41", " lead", "trail ",
    # line breaks and characters that some readers take for one
    "a\nb: c", "a\r\nb", "a\tb", "a\u2028b\u0085c", "\x00\x07\x1b\x7f", "\ufeffé\u202e😀",
    # what others expand: templates, shells, compose
    "{{ 7 * 7 }}{% raw %}", "$(id) `id` ${HOME} $$ ; rm -rf / || \"'",
)  # fmt: skip
