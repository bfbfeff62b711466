"""Has it learned? The loss curves, the code and noise, of one network that has and one that has not.

The first has a narrow code, 1,257 images and noise to remove. The second has a code as large as its input and
40 images, which it memorises. Printed, on images kept aside: the error against the clean image by noise.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from edgeae import Autoencoder

LEVELS = np.linspace(0, 0.5, 6)  # of the noise: its standard deviation, of the range of a pixel

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("has_it_learned.png"), help="picture to write")
parser.add_argument("--epochs", type=int, default=100)
arguments = parser.parse_args()
warnings.filterwarnings("ignore", "a code of 64 values is not smaller")  # that is the point here

images, digit = load_digits(return_X_y=True)
train, test, _, digit_test = train_test_split(images, digit, test_size=0.3, random_state=0)
common = {"sample_shape": (8, 8), "batch_size": 32, "epochs": arguments.epochs, "random_state": 0}
good = Autoencoder(12, hidden=(128,), objective="denoising", patience=20, **common).fit(train)
bad = Autoencoder(64, hidden=(256,), patience=arguments.epochs, learning_rate=3e-3, **common).fit(train[:40])

figure = Figure(figsize=(12, 3.7), dpi=72, layout="constrained")
curves, code, noise = figure.subplots(1, 3)
for model, name, colour in ((good, "narrow, denoising", "tab:blue"), (bad, "wide, 40 images", "tab:orange")):
    history = model.trained_.history
    curves.semilogy(history["val_loss"], color=colour, label=f"{name}: held out")
    curves.semilogy(history["loss"], color=colour, linestyle=":", label=f"{name}: training")
curves.set(xlabel="epoch", ylabel="loss", title="Loss")
curves.legend(fontsize=8)

plane = PCA(2).fit_transform(good.transform(test))
code.scatter(*plane.T, c=digit_test, cmap="tab10", vmin=-0.5, vmax=9.5, s=8)
code.set(title="Code of the narrow one, two components", xticks=[], yticks=[])

methods = {"narrow, denoising": good, "wide, 40 images": bad, "PCA, 12 components": PCA(12).fit(train)}
print("noise" + " " * 17 + "".join(f"{level:8.1f}" for level in LEVELS))
for name, method in methods.items():
    made = []
    for level in LEVELS:
        noisy = test + level * 16 * np.random.default_rng(0).normal(size=test.shape)
        made.append(np.mean((method.inverse_transform(method.transform(noisy)) - test) ** 2) / 16**2)
    print(f"{name:22}" + "".join(f"{error:8.4f}" for error in made))
    noise.plot(LEVELS, made, marker="o", label=name)
noise.plot(LEVELS, LEVELS**2, color="black", linestyle="--", label="a copy of the input")
noise.set(xlabel="noise, share of the range", ylabel="error against the clean image", title="Noise")
noise.legend(fontsize=8)
figure.savefig(arguments.out)
