"""Calls that failed and are kept until they are made again."""
