"""Backups that restore: restic stores; policy, safety, drills and proof are here."""
