"""One request from its first byte to its log line: who asks, what is added, what is answered."""
