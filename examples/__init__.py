"""Small real services, each with its spec and everything generated from it."""
