"""Fewer bits, with the error kept."""
