"""Training data: from files and arrays to scaled samples."""
