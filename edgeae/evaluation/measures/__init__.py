"""What is measured: a file each, with its figures, how they are computed, and their table."""
