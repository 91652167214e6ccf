"""What an attempt has come to, read off its answer or its exception."""
