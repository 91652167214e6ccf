"""One file per policy: what may be said, what it shows, what it does."""
