"""`python -m mahavishnu`: the same as the command `mahavishnu`."""

from __future__ import annotations

from mahavishnu.cli import main

if __name__ == "__main__":
    main()
