"""How what a service keeps on a Redis or Valkey server is named."""


def tag(whose: str, *kind: str) -> str:
    """What all its keys begin with, by the service's full name: a cluster keeps them in one slot.

    The brace ends the name, so that rights for `shop` are none for `shop@staging`.
    """
    return f"{{{':'.join(('mahavishnu', whose, *kind))}}}"
