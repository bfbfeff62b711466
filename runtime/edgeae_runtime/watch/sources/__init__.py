"""Where the readings of a watch come from."""
