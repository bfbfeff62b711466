"""Pictures. Each function returns a figure that is saved with ``savefig``; no window, no global state."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

LOSS_LABELS = {
    "mse": "mean squared error, scaled units",
    "bce": "binary cross-entropy",
    "mae": "mean absolute error, scaled units",
}
DOTS_PER_INCH = 150


def loss_curve(history: dict[str, list[float]], loss: str) -> Figure:
    """Draw training and validation loss against the epoch, and mark the best one."""
    figure, axes = _figure(6, 4)
    epochs = np.arange(1, len(history["loss"]) + 1)
    best = int(np.argmin(history["val_loss"]))
    axes.plot(epochs, history["loss"], label="training")
    axes.plot(epochs, history["val_loss"], label="validation")
    axes.plot(epochs[best], history["val_loss"][best], "o", label=f"best: epoch {best + 1}", color="black")
    axes.set(xlabel="epoch", ylabel=LOSS_LABELS[loss], yscale="log", title="Loss")
    axes.legend()
    return figure


def reconstructions(originals: NDArray[Any], reconstructed: NDArray[Any], errors: NDArray[Any]) -> Figure:
    """Draw images (n, height, width) over their reconstructions, each with its error."""
    count = len(originals)
    figure = Figure(figsize=(1.1 * count, 2.9), dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(2, count, squeeze=False)
    low, high = float(np.min(originals)), float(np.max(originals))
    for column, (original, copy, error) in enumerate(zip(originals, reconstructed, errors, strict=True)):
        for axes, image in ((grid[0, column], original), (grid[1, column], copy)):
            axes.imshow(image, cmap="gray", vmin=low, vmax=high)
            axes.set_xticks([])
            axes.set_yticks([])
        grid[1, column].set_xlabel(f"{error:.4f}", fontsize=8)
    grid[0, 0].set_ylabel("original")
    grid[1, 0].set_ylabel("reconstruction")
    figure.suptitle("Originals over reconstructions, with the reconstruction error")
    return figure


def latent_space(embeddings: NDArray[Any], labels: NDArray[Any] | None = None) -> Figure:
    """Draw embeddings (n, latent size) on their first two principal components, coloured by label (n,)."""
    from sklearn.decomposition import PCA

    figure, axes = _figure(6.5, 5)
    centre = PCA(n_components=min(2, embeddings.shape[1])).fit(embeddings)
    points = centre.transform(embeddings)
    if points.shape[1] == 1:
        points = np.column_stack([points, np.zeros(len(points))])
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=8, alpha=0.7)
    else:
        for label in np.unique(labels):
            chosen = points[labels == label]
            axes.scatter(chosen[:, 0], chosen[:, 1], s=8, alpha=0.7, label=str(label))
        axes.legend(title="label", loc="center left", bbox_to_anchor=(1, 0.5))
    share = centre.explained_variance_ratio_.sum()
    axes.set(xlabel="component 1", ylabel="component 2", title=f"Latent space ({share:.0%} of its variance)")
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    return figure, figure.subplots()
