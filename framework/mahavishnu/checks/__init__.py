"""Cross-checks of a whole spec, one file and one code each."""
