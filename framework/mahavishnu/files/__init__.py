"""Files below a folder: written whole or not at all; what an earlier run, people and merges have left there."""
