"""What is done with a PromQL tree: read it, resolve it, compute it, try it."""
