"""Go templates, as Prometheus and Alertmanager expand them: how to say text that they leave as it is."""

from __future__ import annotations


def literal(text: str) -> str:
    """Text that a Go template prints unchanged."""
    return text.replace("{", '{{"{"}}') if "{{" in text or text.endswith("{") else text
