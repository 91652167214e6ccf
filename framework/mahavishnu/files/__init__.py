"""What is found where files are generated: earlier runs, people's notes, merges."""
