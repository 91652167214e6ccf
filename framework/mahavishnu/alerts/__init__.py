"""What a service shows and raises whatever its policies are: a module for each concern."""
