"""Alerts that no single policy owns, each beside the series it asks for."""
