"""Anomaly detection on a pump: its temperature and current, a reading every half hour.

From eight normal weeks the autoencoder learns windows of a day. Then a bearing runs hot, a sensor hangs, and
the pump runs at night, the last two with readings that are normal by themselves. Printed: the area under the
ROC curve, beside that of a limit on the readings; false alarms; faults found within a day.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.metrics import roc_auc_score

from edgeae import Autoencoder

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("sensor.png"), help="picture to write")
parser.add_argument("--epochs", type=int, default=60)
arguments = parser.parse_args()

DAY, TRAINING = 48, 56 * 48  # readings
start = {"hot bearing": 60 * DAY + 12, "hanging sensor": 68 * DAY + 14, "night run": 76 * DAY - 6}
hot, hanging, night = (
    slice(at, at + length) for at, length in zip(start.values(), (96, 32, 16), strict=True)
)
random, time = np.random.default_rng(0), np.arange(84 * DAY)
load = np.clip(np.sin((time / 2 % 24 - 7) * np.pi / 12), 0, None)
load *= np.repeat(random.uniform(0.9, 1.1, 84), DAY)
load[night] = 0.8
weather = np.convolve(random.normal(size=len(time) + 5 * DAY), np.ones(5 * DAY + 1) / 12, "valid")
housing = np.convolve(load, np.exp(-np.arange(24) / 4) / 4.5)[: len(time)]  # follows the load
temperature = 41 + 14 * housing + weather + random.normal(0, 0.4, len(time))
temperature[hot] += np.linspace(0, 12, 96)
temperature[hanging] = temperature[hanging.start]
readings = np.column_stack([temperature, 2 + 6 * load + random.normal(0, 0.15, len(time))])
faulty = np.zeros(len(time), bool)
faulty[np.r_[hot, hanging, night]] = True

windows = sliding_window_view(readings, DAY, axis=0).swapaxes(1, 2).reshape(-1, 2 * DAY)
model = Autoencoder(8, sample_shape=(DAY, 2), stride=1, epochs=arguments.epochs, random_state=0)
model.fit(windows[: TRAINING - DAY + 1])
error, alarm = -model.score_samples(windows[-28 * DAY :]), model.predict(windows[-28 * DAY :]) < 0

recent = np.convolve(faulty, np.ones(DAY))[TRAINING : len(time)] > 0  # it stays in the window for a day
time, new, faulty = time[TRAINING:] / DAY, readings[TRAINING:], faulty[TRAINING:]
deviation = np.abs((new - readings[:TRAINING].mean(axis=0)) / readings[:TRAINING].std(axis=0)).max(axis=1)
for name, values in {"autoencoder": error, "limit on the readings": deviation}.items():
    print(f"ROC AUC {roc_auc_score(faulty[faulty | ~recent], values[faulty | ~recent]):.3f}: {name}")
print(f"false alarms: {alarm[~recent].mean():.1%} of the normal readings")
print(f"faults found: {sum(alarm[at - TRAINING :][:DAY].any() for at in start.values())} of {len(start)}")

above, below = (figure := Figure((9, 4.8), dpi=90, layout="constrained")).subplots(2, 1, sharex=True)
above.plot(time, new, linewidth=0.8, label=("temperature, °C", "current, A"))
below.semilogy(time, error, color="black", linewidth=0.8)
below.axhline(model.threshold_.value, color="tab:red", label="threshold")
for axes in (above, below):
    axes.fill_between(time, 0, 1, faulty, color="tab:red", alpha=0.25, transform=axes.get_xaxis_transform())
    axes.legend(loc="center" if axes is above else "upper left", ncols=2)
for name, at in start.items():
    above.annotate(name, (at / DAY, 1.02), xycoords=("data", "axes fraction"), color="tab:red")
below.set(xlabel="day", ylabel="reconstruction error", xlim=(time[0], time[-1]))
figure.savefig(arguments.out)
