"""The call of a dependency: the policies around it, and every form that it can take."""
