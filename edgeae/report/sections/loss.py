"""How the losses and the learning rate went, epoch by epoch."""

import numpy as np

from ..layout import Chart, Page, figure, numbers

LOSS_NAMES = {"mse": "mean squared error", "bce": "cross-entropy", "mae": "mean absolute error"}


def section(page: Page) -> str:
    """Return the section of the loss and the learning rate."""
    history, charts = page.history, page.charts
    charts["loss"] = loss_chart(history, str(page.config.get("loss", "")))
    text = "<section><h2>Loss</h2>" + figure(
        "loss", "Both should fall together; where validation turns upwards, the model learns rows by heart."
    )
    if len(set(history.get("learning_rate", ()))) > 1:
        charts["rate"] = rate_chart(history["learning_rate"])
        text += figure("rate")
    return text + "</section>"


def loss_chart(history: dict[str, list[float]], loss: str) -> Chart:
    """Draw training and validation loss."""
    epochs = list(range(1, len(history["loss"]) + 1))
    values = [*history["loss"], *history["val_loss"]]
    best = int(np.argmin(history["val_loss"])) + 1
    return {
        "alt": f"Training and validation loss over {len(epochs)} epochs; the best validation loss is "
        f"{min(history['val_loss']):.4g} in epoch {best}.",
        "xlabel": "epoch",
        "ylabel": LOSS_NAMES.get(loss, loss),
        "ylog": min(values) > 0,
        "whole": True,
        "series": [
            {"name": "training", "x": epochs, "y": numbers(history["loss"])},
            {"name": "validation", "x": epochs, "y": numbers(history["val_loss"])},
        ],
        "rules": [{"axis": "x", "at": best, "label": f"best: {best}"}],
    }


def rate_chart(rates: list[float]) -> Chart:
    """Draw the learning rate of each epoch."""
    return {
        "alt": f"Learning rate, from {rates[0]:.3g} to {rates[-1]:.3g}.",
        "title": "Learning rate",
        "height": 170,
        "xlabel": "epoch",
        "ylabel": "step size",
        "ylog": min(rates) > 0,
        "whole": True,
        "series": [{"name": "learning rate", "x": list(range(1, len(rates) + 1)), "y": numbers(rates)}],
    }
