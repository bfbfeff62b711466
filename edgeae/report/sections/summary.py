"""The head of the page: the run in a few figures, and what they say in words."""

from html import escape

import numpy as np

from ...evaluation.baselines import IDENTITY
from ...models.architectures import ARCHITECTURES
from ..layout import Page


def section(page: Page) -> str:
    """Return the head of the page: the run in figures, and what they say."""
    evaluation, history, opened = page.outcome.evaluation, page.history, page.context.opened
    figures = evaluation.error[0]
    shape = " x ".join(map(str, opened.input.shape))
    best = int(np.argmin(history["val_loss"])) + 1
    cards = [
        ("Error (MSE)", f"{figures.mse:.4g}", "scaled units, all rows"),
        ("Code", f"{opened.latent_size}", f"of {evaluation.compression.input_values} values"),
        ("Best epoch", f"{best}", f"of {len(history['loss'])}"),
    ]
    if figures.psnr is not None:
        cards.append(("PSNR", f"{figures.psnr:.1f}", "dB"))
    if evaluation.downstream is not None:
        cards.append(
            (
                "5 neighbours",
                f"{evaluation.downstream.found[0].nearest_neighbours:.1%}",
                "accuracy on the code",
            )
        )
    if evaluation.detection:
        cards.append(("ROC AUC", f"{evaluation.detection[0].roc_auc:.3f}", "of the error"))
    items = "".join(f"<div><dt>{a}</dt><dd>{b} <small>{c}</small></dd></div>" for a, b, c in cards)
    verdict = "".join(f"<li>{escape(line)}</li>" for line in verdicts(page))
    return (
        f"<header><h1>{escape(page.name)}</h1><p class='lead'>An autoencoder of {shape} values, shown on "
        f"{evaluation.rows:,} rows: {escape(page.where)}.</p></header><dl class='cards'>{items}</dl>"
        f"<h2>Did it learn?</h2><ul class='verdict'>{verdict}</ul>"
    )


def verdicts(page: Page) -> list[str]:
    """Return what the figures say, in a sentence each."""
    lines, history = _of_noise(page), page.history
    gap = min(history["val_loss"]) / history["loss"][int(np.argmin(history["val_loss"]))]
    if gap > 1.5:
        lines.append(
            f"Validation loss is {gap:.1f} times the training loss: it has begun to learn rows by heart."
        )
    elif int(np.argmin(history["val_loss"])) == len(history["loss"]) - 1:
        lines.append("The last epoch was the best one: more epochs may still help.")
    return lines


def _of_noise(page: Page) -> list[str]:
    """Return what the curves of Gaussian noise say; nothing where that was not measured."""
    curves = {c.name: c for c in page.outcome.evaluation.robustness if c.noise == "gaussian"}
    if not curves:
        return []
    lines = []
    pca = page.context.pca.name
    row = ARCHITECTURES.get(page.config.get("arch", "dense"))
    is_linear = row is not None and not row.activations
    mine, linear = (curves[name].mse[0] for name in (page.model.name, pca))
    if mine < linear:
        lines.append(
            f"Its error is {1 - mine / linear:.0%} below that of {pca}, the best linear code of that size."
        )
    elif is_linear:
        lines.append(f"Its error is {mine / linear - 1:.0%} above that of {pca}, the best code of its kind.")
    else:
        lines.append(
            f"Its error is not below that of {pca}: a linear code would do as well. Train longer or wider."
        )
    noisy, copy = (curves[name] for name in (page.model.name, IDENTITY))
    level, at, alike = noisy.levels[-1], noisy.mse[-1], copy.mse[-1]
    if at < 0.7 * alike:
        lines.append(
            f"It removes noise: at {level:g} its output is {1 - at / alike:.0%} nearer to the clean input "
            "than its input is."
        )
    else:
        lines.append(
            f"It passes noise on: at {level:g} its output is hardly nearer to the clean input than a copy."
        )
    return lines
