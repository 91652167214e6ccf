"""What the process says of itself: series, log lines, and how they leave."""
