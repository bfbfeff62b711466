"""Fitting a model, and keeping what comes of it."""
