"""On the way from a file to a spec: its tree, its layers, its shape, and what is wrong with it."""
