"""The shapes of the generated files, as data; `mahavishnu.generators` fills in the values."""
