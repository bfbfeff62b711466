import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from edgeae.plots import latent_space, loss_curve, reconstructions

HISTORY = {"loss": [1.0, 0.5, 0.3, 0.2], "val_loss": [1.1, 0.7, 0.4, 0.6]}
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 16, (4, 8, 8))


def drawn(figure, path):
    """The pixels of the saved picture, (height, width, 4)."""
    figure.savefig(path)
    return imread(path)


@pytest.mark.parametrize(
    ("figure", "other"),
    [
        (lambda: loss_curve(HISTORY, "mse"), lambda: loss_curve(HISTORY | {"val_loss": [2, 1, 2, 3]}, "mse")),
        (
            lambda: reconstructions(IMAGES, IMAGES, np.zeros(4)),
            lambda: reconstructions(IMAGES, IMAGES[::-1], np.zeros(4)),
        ),
        (
            lambda: latent_space(RNG.normal(size=(50, 5))),
            lambda: latent_space(RNG.normal(size=(50, 5)), np.arange(50) % 3),
        ),
    ],
    ids=["loss curve", "reconstructions", "latent space"],
)
def test_a_picture_is_drawn_of_what_it_is_given(figure, other, tmp_path):
    picture, second = drawn(figure(), tmp_path / "one.png"), drawn(other(), tmp_path / "two.png")
    assert min(picture.shape[:2]) > 300
    inked = np.mean(np.any(picture[..., :3] < 0.9, axis=-1))
    assert 0.005 < inked < 0.9
    assert not np.array_equal(picture[: len(second)], second[: len(picture)])


def test_the_loss_curve_shows_both_losses_and_marks_the_best_epoch():
    (axes,) = loss_curve(HISTORY, "bce").axes
    training, validation, best = axes.lines
    np.testing.assert_array_equal(training.get_xydata(), [(1, 1.0), (2, 0.5), (3, 0.3), (4, 0.2)])
    np.testing.assert_array_equal(validation.get_ydata(), HISTORY["val_loss"])
    np.testing.assert_array_equal(best.get_xydata(), [(3, 0.4)])
    assert best.get_label() == "best: epoch 3"
    assert axes.get_ylabel() == "binary cross-entropy"


def test_reconstructions_stand_below_their_originals_in_the_same_greys_with_their_errors():
    copies = IMAGES * 1.5  # brighter than any original
    axes = reconstructions(IMAGES, copies, np.array([0.1, 0.2, 0.3, 0.45678])).axes
    shown = [one.images[0] for one in axes]
    for i in range(4):
        np.testing.assert_array_equal(shown[i].get_array(), IMAGES[i])
        np.testing.assert_array_equal(shown[4 + i].get_array(), copies[i])
    assert {image.get_clim() for image in shown} == {(IMAGES.min(), IMAGES.max())}
    assert [one.get_xlabel() for one in axes[4:]] == ["0.1000", "0.2000", "0.3000", "0.4568"]


def test_the_latent_space_is_shown_on_its_two_principal_components():
    embeddings = RNG.normal(size=(60, 5)) * [1, 5, 0.1, 3, 0.5]
    labels = np.arange(60) % 3
    (axes,) = latent_space(embeddings, labels).axes
    _, sizes, directions = np.linalg.svd(embeddings - embeddings.mean(axis=0), full_matrices=False)
    expected = (embeddings - embeddings.mean(axis=0)) @ directions[:2].T
    for label, dots in enumerate(axes.collections):
        found = dots.get_offsets()
        np.testing.assert_allclose(np.abs(found), np.abs(expected[labels == label]), atol=1e-9)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["0", "1", "2"]
    share = np.sum(sizes[:2] ** 2) / np.sum(sizes**2)
    assert axes.get_title() == f"Latent space ({share:.0%} of its variance)"


def test_a_code_of_one_value_is_shown_on_a_line(tmp_path):
    figure = latent_space(np.arange(5.0)[:, np.newaxis])
    assert np.all(figure.axes[0].collections[0].get_offsets()[:, 1] == 0)
    assert np.ptp(drawn(figure, tmp_path / "line.png")) > 0


def test_neither_pyplot_nor_its_settings_are_touched():
    script = """
import sys
import matplotlib
before = matplotlib.rcParams.copy()  # not dict(), which has pyplot choose a backend
from edgeae.plots import loss_curve
loss_curve({"loss": [1.0, 2.0], "val_loss": [1.0, 2.0]}, "mse").savefig("/dev/null", format="png")
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams.copy() == before
"""
    subprocess.run([sys.executable, "-c", script], check=True)
