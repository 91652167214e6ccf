"""Alerts that no single policy owns: a module for each concern, with the series that it asks for."""
