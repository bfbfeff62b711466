"""The figures of the report's page, as the page's script wants them."""

import base64
import io
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..evaluation.evaluate import Outcome
from ..evaluation.figures import Evaluation, are_images

Chart: TypeAlias = dict[str, Any]

MOST_POINTS = 1500
"""Most rows shown in the latent space."""
MOST_PIXELS = 700_000
"""Most pixels of the small images that the latent space shows; beyond, fewer rows are shown."""
MOST_STEPS = 2500
"""Most points of a series; a longer one is shown by the largest error in each of so many parts."""
BARS = 40
"""Bars of a histogram."""
LOG_AXIS_RATIO = 10
"""Ratio of the largest shown error to the median above which a histogram's axis is logarithmic."""
LOSS_NAMES = {"mse": "mean squared error", "bce": "cross-entropy", "mae": "mean absolute error"}


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
            {"name": "training", "x": epochs, "y": _numbers(history["loss"])},
            {"name": "validation", "x": epochs, "y": _numbers(history["val_loss"])},
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
        "series": [{"name": "learning rate", "x": list(range(1, len(rates) + 1)), "y": _numbers(rates)}],
    }


def robustness_charts(evaluation: Evaluation) -> dict[str, Chart]:
    """Draw one chart a kind of noise."""
    charts: dict[str, Chart] = {}
    for curve in evaluation.robustness:
        what = "standard deviation, scaled units" if curve.noise == "gaussian" else "share of values hit"
        chart = charts.setdefault(
            f"noise-{curve.noise}",
            {
                "title": curve.noise.capitalize().replace("-", " "),
                "alt": f"Error against the clean input as {curve.noise} noise grows.",
                "xlabel": what,
                "ylabel": "MSE",
                "fromZero": True,
                "height": 240,
                "series": [],
            },
        )
        chart["series"].append(
            {
                "name": curve.name,
                "x": list(curve.levels),
                "y": _numbers(curve.mse),
                "dash": curve.name == "identity copy",
            }
        )
    return charts


def histogram_chart(outcome: Outcome, name: str) -> Chart:
    """Draw how the errors of one model are distributed, anomalies apart where they are known."""
    errors = outcome.measured[name].errors
    figures = next(e for e in outcome.evaluation.error if e.name == name)
    top = max(figures.quantiles["0.99"], 1.05 * (figures.threshold or 0)) or 1.0
    low = float(errors.min())
    is_wide = low > 0 and top > LOG_AXIS_RATIO * figures.quantiles["0.5"]
    edges = np.geomspace(low, top, BARS + 1) if is_wide else np.linspace(0, top, BARS + 1)
    parts = [("rows", np.full(len(errors), True), 0)]
    if outcome.truth is not None:
        parts = [("normal", ~outcome.truth.anomalous, 0), ("anomalous", outcome.truth.anomalous, 1)]
    series = []
    for label, chosen, color in parts:
        counts, _ = np.histogram(np.clip(errors[chosen], edges[0], edges[-1]), edges)
        shares = 100 * counts / max(1, chosen.sum())
        series.append({"name": label, "x": _numbers(edges), "y": _numbers(shares), "color": color})
    chart: Chart = {
        "kind": "bars",
        "alt": f"Histogram of the reconstruction error of {len(errors)} rows; the median is "
        f"{figures.quantiles['0.5']:.4g}.",
        "xlabel": "reconstruction error (the last bar: all larger ones)",
        "ylabel": "% of the rows",
        "fromZero": True,
        "xlog": is_wide,
        "series": series,
    }
    if figures.threshold is not None:
        chart["rules"] = [{"axis": "x", "at": figures.threshold, "label": "threshold"}]
    return chart


def series_chart(outcome: Outcome, name: str) -> Chart:
    """Draw the error of a series over time, with its threshold and what was labelled."""
    errors, times = outcome.measured[name].errors, outcome.samples.timestamps
    x = np.arange(1, len(errors) + 1, dtype=np.float64) if times is None else _seconds(times)
    bands: list[list[float]] = []
    if outcome.samples.periods is not None:
        bands = [[float(a), float(b)] for a, b in _seconds(outcome.samples.periods)]
    elif outcome.truth is not None:
        from ..evaluation.detection import runs_of

        bands = [[float(x[run[0]]), float(x[run[-1]])] for run in runs_of(outcome.truth.anomalous)]
    kept = _peaks(errors)
    limit = next(e.threshold for e in outcome.evaluation.error if e.name == name)
    return {
        "alt": f"Reconstruction error of {len(errors)} windows in order, with the threshold"
        + (f" and {len(bands)} labelled episodes." if bands else "."),
        "xlabel": "window" if times is None else f"time, {_day(times[0])} to {_day(times[-1])}",
        "ylabel": "error",
        "time": times is not None,
        "ylog": bool(errors.min() > 0),
        "bands": bands,
        "series": [{"name": "error", "x": _numbers(x[kept], 12), "y": _numbers(errors[kept]), "thin": True}],
        "rules": [] if limit is None else [{"axis": "y", "at": limit, "label": "threshold"}],
    }


def window_charts(outcome: Outcome, name: str) -> dict[str, Chart]:
    """Draw some windows over what is made of them: an ordinary one, and the strangest ones."""
    errors = outcome.measured[name].errors
    order = np.argsort(errors)
    shown = {
        "median": order[len(order) // 2],
        "95 %": order[int(0.95 * (len(order) - 1))],
        "largest": order[-1],
    }
    subject = next(s for s in outcome.opened.subjects if s.name == name)
    scaler, features = outcome.opened.scaler, outcome.opened.input.features
    charts: dict[str, Chart] = {}
    for what, index in shown.items():
        row = outcome.samples.rows[index : index + 1]
        _, _, copy = subject.reconstruct(row)
        if copy is None:
            return {}
        made = scaler.unscale(copy.reshape(row.shape))[0].reshape(len(row[0]), -1)
        given = row[0].reshape(len(row[0]), -1).astype(np.float64)
        feature = int(np.argmax(np.square(given - made).mean(axis=0)))
        label = features[feature] if features and len(features) == given.shape[1] else f"value {feature + 1}"
        charts[f"window-{len(charts)}"] = {
            "title": f"{what.capitalize()} error: {errors[index]:.3g}",
            "alt": f"A window and its reconstruction, of {what} error.",
            "xlabel": "reading",
            "ylabel": label,
            "height": 210,
            "whole": True,
            "series": [
                {"name": "original", "x": list(range(1, len(given) + 1)), "y": _numbers(given[:, feature])},
                {
                    "name": "reconstruction",
                    "x": list(range(1, len(given) + 1)),
                    "y": _numbers(made[:, feature]),
                },
            ],
        }
    return charts


def latent_points(outcome: Outcome, name: str, seed: int = 0) -> dict[str, Any]:
    """Return some rows' codes on their first three principal components, for the page's canvas."""
    from sklearn.decomposition import PCA

    codes, errors = outcome.measured[name].codes, outcome.measured[name].errors
    shape = outcome.opened.input.shape
    images = is_image(outcome)
    most = min(MOST_POINTS, MOST_PIXELS // (shape[0] * shape[1])) if images else MOST_POINTS
    chosen = np.sort(np.random.default_rng(seed).permutation(len(codes))[: max(100, most)])
    pca = PCA(min(3, *codes.shape)).fit(codes)
    points = pca.transform(codes[chosen])
    points = np.column_stack([points, np.zeros((len(points), 3 - points.shape[1]))])
    points /= max(float(np.quantile(np.abs(points), 0.998)), float(np.finfo(np.float32).tiny))
    labels, groups, names = outcome.samples.labels, None, None
    if outcome.truth is not None and (labels is None or len(np.unique(labels)) > 2):
        names = ["normal", "anomalous"]
        groups = outcome.truth.anomalous[chosen].astype(int).tolist()
    elif labels is not None:
        known, places = np.unique(labels[chosen], return_inverse=True)
        names, groups = [str(name) for name in known], places.tolist()
    rank = np.argsort(np.argsort(errors[chosen])) / max(1, len(chosen) - 1)
    ratios = pca.explained_variance_ratio_
    return {
        "points": np.round(points, 3).tolist(),
        "rows": chosen.tolist(),
        "groups": groups,
        "names": names,
        "errors": {"values": _numbers(errors[chosen]), "rank": _numbers(rank)},
        "axes": [f"component {i + 1} ({share:.0%})" for i, share in enumerate(np.nan_to_num(ratios))],
        "sprite": _sprite(outcome.samples.rows[chosen]) if images else None,
    }


def is_image(outcome: Outcome) -> bool:
    """Return whether the rows are images."""
    series = outcome.samples.series or outcome.opened.input.window is not None
    return are_images(outcome.opened.input.shape, series=series)


def png(image: NDArray[Any], low: float, high: float) -> str:
    """Return an image (height, width) or (height, width, channels) as the address of a PNG in the page."""
    from PIL import Image

    shares = np.clip((image.astype(np.float64) - low) / ((high - low) or 1.0), 0, 1)
    pixels = np.round(255 * shares).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _sprite(images: NDArray[Any]) -> dict[str, Any]:
    """Return small images side by side in one picture."""
    count, height, width = images.shape[:3]
    columns = int(np.ceil(np.sqrt(count)))
    sheet = np.full((columns * int(np.ceil(count / columns)), *images.shape[1:]), images.min(), images.dtype)
    sheet[:count] = images
    sheet = sheet.reshape(-1, columns, *images.shape[1:]).swapaxes(1, 2)
    sheet = sheet.reshape(-1, columns * width, *images.shape[3:])
    source = png(sheet, float(images.min()), float(images.max()))
    return {"src": source, "width": width, "height": height, "columns": columns}


def _day(time: Any) -> str:
    return str(np.datetime64(time, "D"))


def _seconds(times: NDArray[Any]) -> NDArray[np.float64]:
    return times.astype("datetime64[ms]").astype(np.int64) / 1000


def _peaks(errors: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return which points of a long series to show: the largest of each part."""
    part = -(-len(errors) // MOST_STEPS)
    starts = np.arange(0, len(errors), part)
    return np.array([start + int(np.argmax(errors[start : start + part])) for start in starts])


def _numbers(values: Any, digits: int = 5) -> list[float | None]:
    """Return numbers with so many digits; what is not finite becomes a gap."""
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in values]
