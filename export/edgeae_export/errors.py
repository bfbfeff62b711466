"""What is wrong with a run, a model or a recipe."""

from edgeae_runtime import EdgeaeError


class RecipeError(EdgeaeError):
    """No recipe of that name for what is exported."""


class RunError(EdgeaeError):
    """A run folder is missing, incomplete, or not what `edgeae train` writes."""


class ModelError(EdgeaeError):
    """The Keras model is not an autoencoder that can be exported."""
