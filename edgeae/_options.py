"""The options of ``edgeae train`` that say what is fitted, and how; those of `TrainConfig`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

NOT_NEGATIVE = click.FloatRange(0)
POSITIVE = click.FloatRange(0, min_open=True)
SHARE = click.FloatRange(0, 1, min_open=True, max_open=True)


def model_options(command: F) -> F:
    """Add the options of the network, of what is minimised and of its regularization."""
    return _add(
        command,
        _choice("--arch", ["dense", "conv1d", "conv2d", "lstm"], "Kind of network."),
        click.option(
            "--hidden",
            type=click.IntRange(min=1),
            multiple=True,
            help="Units or filters of a hidden layer of the encoder; give it once a layer. The decoder "
            "mirrors them.  [default: dense as many as the input, 8 to 128; conv 16 and 32; lstm 64]",
        ),
        click.option(
            "--latent",
            type=click.IntRange(min=1),
            help="Units of the code.  [default: 32, or a quarter of the input if less]",
        ),
        _choice(
            "--objective",
            ["plain", "denoising", "sparse", "contractive", "variational"],
            "What keeps the code from being a copy, besides its size.",
        ),
        click.option(
            "--loss",
            type=click.Choice(["mse", "bce", "mae"]),
            help="Of the reconstruction.  [default: bce for data of two values, else mse]",
        ),
        _number("--noise", 0.3, "Denoising: standard deviation in scaled units, or share of the values."),
        _choice("--noise-kind", ["gaussian", "masking", "salt-and-pepper"], "Denoising: kind of noise."),
        _choice("--sparsity", ["l1", "kl"], "Sparse: few units active, or each of them rarely."),
        _number("--sparsity-target", 0.05, "Sparse, kl: mean activation.", SHARE),
        _number("--sparsity-weight", 0.03, "Sparse: weight of the penalty."),
        _number("--contractive-weight", 0.1, "Contractive: weight of the Jacobian."),
        _number("--kl-weight", 1.0, "Variational: weight of the divergence from the prior."),
        _number("--laplacian", 0.0, "Weight that keeps neighbours of the input near in the code; try 0.1."),
        _number("--l2", 0.0, "Weight of the squared kernels."),
        click.option("--max-norm", type=POSITIVE, help="Largest norm of the weights that lead into a unit."),
        click.option("--tied", is_flag=True, help="Dense: decoder kernels are the encoder's, transposed."),
    )


def training_options(command: F) -> F:
    """Add the options of the scaler and of the fit."""
    return _add(
        command,
        _choice(
            "--scaler",
            ["minmax", "standard"],
            "To the range [0, 1], or to mean 0 and variance 1; fitted on the training rows.",
        ),
        click.option("--epochs", type=click.IntRange(min=1), default=50, show_default=True, help="At most."),
        click.option(
            "--batch-size", type=click.IntRange(min=1), default=128, show_default=True, help="Rows a step."
        ),
        _number(
            "--validation-split",
            0.1,
            "Share of the rows held out, for early stopping and for thresholds.",
            SHARE,
        ),
        click.option(
            "--patience",
            type=click.IntRange(min=1),
            default=5,
            show_default=True,
            help="Epochs without progress before the end; midway the step size is halved.",
        ),
        _number("--learning-rate", 1e-3, "Adam's step size at the beginning.", POSITIVE),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**32 - 1),
            default=0,
            show_default=True,
            help="For repeatability.",
        ),
    )


def _add(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def _choice(name: str, choices: list[str], text: str) -> Callable[[F], F]:
    return click.option(name, type=click.Choice(choices), default=choices[0], show_default=True, help=text)


def _number(name: str, default: float, text: str, kind: click.FloatRange = NOT_NEGATIVE) -> Callable[[F], F]:
    return click.option(name, type=kind, default=default, show_default=True, help=text)
