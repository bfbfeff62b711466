"""Features for a classifier: many images, of which few have a label.

A denoising autoencoder learns from all training images, without labels. A linear classifier then gets its
code for the labelled ones. Printed: the share of the test images that are classified right, averaged over 20
draws of the labelled images, beside the same classifier on raw pixels and on principal components.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from edgeae import Autoencoder

DRAWS = 20

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("features.png"), help="picture to write")
parser.add_argument("--epochs", type=int, default=100)
arguments = parser.parse_args()

images, digit = load_digits(return_X_y=True)
train, test, digit_train, digit_test = train_test_split(images, digit, test_size=0.3, random_state=0)
network = Autoencoder(
    16, objective="denoising", hidden=(128,), sample_shape=(8, 8), batch_size=32, patience=20
).set_params(epochs=arguments.epochs, random_state=0)
features = {"64 pixels": FunctionTransformer(), "16 components": PCA(16), "code of 16": network}
labelled = (20, 50, 100, 200, 500)

axes = (figure := Figure(figsize=(6, 4), dpi=80, layout="constrained")).subplots()
print("labelled images" + "".join(f"{count:8}" for count in labelled))
for name, method in features.items():
    known, unknown = method.fit_transform(train), method.transform(test)
    right = np.empty((len(labelled), DRAWS))
    for i, count in enumerate(labelled):
        for draw in range(DRAWS):
            chosen = np.random.default_rng(draw).permutation(len(train))[:count]
            classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            right[i, draw] = classifier.fit(known[chosen], digit_train[chosen]).score(unknown, digit_test)
    print(f"{name:15}" + "".join(f"{share:8.3f}" for share in right.mean(axis=1)))
    axes.errorbar(labelled, right.mean(axis=1), right.std(axis=1) / np.sqrt(DRAWS), marker="o", label=name)
axes.set(
    xscale="log", xticks=labelled, xticklabels=labelled, xlabel="labelled images", ylabel="classified right"
)
axes.minorticks_off()
axes.legend(title="a linear classifier on")
figure.savefig(arguments.out)
