"""Where the results of a watch go."""
