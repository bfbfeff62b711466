"""``edgeae watch``: readings in, results out, for years."""
