"""Which route of the app a request goes to."""
