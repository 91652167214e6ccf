"""One YAML file says how a service survives: enforced in the process, compiled into everything around it."""

from __future__ import annotations

__version__ = "0.1.0"
