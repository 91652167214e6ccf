"""The limits of a spec at work: one decision for each request, and what this process keeps for it."""
