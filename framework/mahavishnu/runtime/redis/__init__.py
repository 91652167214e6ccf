"""A Redis or Valkey server as the store of limits that processes share."""
