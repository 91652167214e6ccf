"""What follows from a contract: panels, links, bounds, and what is promised."""
