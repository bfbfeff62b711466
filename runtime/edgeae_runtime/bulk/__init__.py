"""Many rows through a bundle."""
