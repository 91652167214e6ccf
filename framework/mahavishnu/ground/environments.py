"""How what belongs to one environment is told from the same of another."""


def called(name: str, environment: str | None) -> str:
    """A name among those of all environments: what is known or kept of one is not known or kept of another."""
    return f"{name}@{environment}" if environment else name
