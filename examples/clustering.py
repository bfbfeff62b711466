"""Clustering: which images belong together, without a label.

A variational autoencoder spreads its code like a round cloud and keeps images that look alike together, which
suits k-means. Printed, over ten starts of k-means: the mean adjusted Rand index (1: the clusters are the
digits, 0: chance), beside the same k-means on pixels and on principal components.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import FunctionTransformer

from edgeae import Autoencoder

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("clustering.png"), help="picture to write")
parser.add_argument("--epochs", type=int, default=100)
arguments = parser.parse_args()

images, digit = load_digits(return_X_y=True)
network = Autoencoder(
    10, objective="variational", kl_weight=3, hidden=(256,), sample_shape=(8, 8), batch_size=64, patience=20
).set_params(epochs=arguments.epochs, random_state=0)
for name, method in {
    "64 pixels": FunctionTransformer(),
    "10 components": PCA(10),
    "code of 10": network,
}.items():
    points = method.fit_transform(images)
    indices = []
    for start in range(10):
        clusters = KMeans(10, n_init=10, random_state=start).fit(points)
        indices.append(adjusted_rand_score(digit, clusters.labels_))
    print(f"{name:15} adjusted Rand index {np.mean(indices):.3f}")

# the last ones are those of the code: show each centre, decoded, and the images next to it
centres, distances = network.inverse_transform(clusters.cluster_centers_), clusters.transform(points)
figure = Figure(figsize=(8, 6.2), dpi=80, layout="constrained")
for cluster, line in enumerate(figure.subplots(10, 13)):
    nearest = images[np.argsort(distances[:, cluster])[:12]]
    for axes, image in zip(line, [centres[cluster], *nearest], strict=True):
        axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axes.set(xticks=[], yticks=[])
    line[0].spines[:].set(color="tab:red", linewidth=2)
figure.suptitle("Centre of each cluster, decoded (red), and the images next to it")
figure.savefig(arguments.out)
