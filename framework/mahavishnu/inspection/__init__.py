"""The app, imported and looked at, to hold the spec against it."""
