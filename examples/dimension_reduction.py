"""Dimension reduction: images of 64 pixels on a plane, beside principal components.

Both methods give two numbers an image and never see a label. Printed, on images kept aside: the error of the
reconstruction from those two numbers, and how often the five nearest neighbours in the plane know the digit.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from edgeae import Autoencoder

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("dimension_reduction.png"), help="picture to write")
parser.add_argument("--epochs", type=int, default=200)
arguments = parser.parse_args()

images, digit = load_digits(return_X_y=True)
train, test, digit_train, digit_test = train_test_split(images, digit, test_size=0.3, random_state=0)
methods = {
    "PCA": PCA(2),
    "autoencoder": Autoencoder(
        2,
        hidden=(256, 64),
        sample_shape=(8, 8),
        epochs=arguments.epochs,
        batch_size=32,
        patience=20,
        random_state=0,
    ),
}

figure = Figure(figsize=(8, 3.7), dpi=68, layout="constrained")
for axes, (name, method) in zip(figure.subplots(1, 2), methods.items(), strict=True):
    plane_train = method.fit_transform(train)
    plane = method.transform(test)
    error = np.mean((method.inverse_transform(plane) - test) ** 2)
    accuracy = KNeighborsClassifier().fit(plane_train, digit_train).score(plane, digit_test)
    print(f"{name:12} reconstruction error {error:6.2f}   nearest neighbours right {accuracy:.3f}")
    dots = axes.scatter(*plane.T, c=digit_test, cmap="tab10", vmin=-0.5, vmax=9.5, s=7)
    axes.set_title(f"{name}: error {error:.1f}, neighbours right {accuracy:.0%}", fontsize=10)
    axes.set(xticks=[], yticks=[])
figure.colorbar(dots, ax=figure.axes, ticks=range(10), label="digit (not seen in training)", pad=0.01)
figure.savefig(arguments.out)
