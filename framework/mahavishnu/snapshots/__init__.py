"""What is said of a backup's snapshots: which are kept, at which servers, and what is shown of them."""
