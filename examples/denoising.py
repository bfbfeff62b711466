"""Denoising: images with noise go in, cleaner ones come out.

The denoising autoencoder is trained to give clean images for noisy ones; the plain one only ever saw clean
ones. Printed, on images kept aside: how much of the noise's power (mean squared error) is left.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from edgeae import Autoencoder

NOISE = 0.3  # standard deviation, of the range of a pixel

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("denoising.png"), help="picture to write")
parser.add_argument("--epochs", type=int, default=150)
arguments = parser.parse_args()

train, clean = train_test_split(load_digits().data, test_size=0.3, random_state=0)
noisy = clean + NOISE * np.ptp(train) * np.random.default_rng(0).normal(size=clean.shape)

common = {"hidden": (256,), "sample_shape": (8, 8), "batch_size": 32, "patience": 20, "random_state": 0}
common |= {"epochs": arguments.epochs}
methods = {
    "PCA, 16 components": PCA(16),
    "plain autoencoder": Autoencoder(16, **common),
    "denoising autoencoder": Autoencoder(32, objective="denoising", noise=NOISE, **common),
}
rows = {"clean": clean, "noisy": noisy}
for name, method in methods.items():
    method.fit(train)
    rows[name] = method.inverse_transform(method.transform(noisy))
    left = np.mean((rows[name] - clean) ** 2) / np.mean((noisy - clean) ** 2)
    print(f"{name:22} leaves {left:6.1%} of the noise's power")

figure = Figure(figsize=(8, 3.7), dpi=100, layout="constrained")
for line, (name, values) in zip(figure.subplots(len(rows), 12), rows.items(), strict=True):
    for axes, image in zip(line, values.reshape(-1, 8, 8), strict=False):
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=16)
        axes.set(xticks=[], yticks=[])
    line[0].set_ylabel(name.replace(" ", "\n"), rotation=0, ha="right", va="center")
figure.savefig(arguments.out)
