"""One HTML page that shows whether a run learned anything."""
