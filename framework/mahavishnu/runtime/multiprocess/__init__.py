"""The worker processes of one server: they find each other, and answer as one."""
