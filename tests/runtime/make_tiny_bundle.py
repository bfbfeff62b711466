"""Make ``tiny.edgeae`` beside this script: the bundle on which the runtime's tests run.

The bundle is committed, so that those tests need no training stack. Only when its format or the
exporter changes does it have to be made anew, in an environment with the whole of edgeae::

    python tests/runtime/make_tiny_bundle.py

On one machine the same versions give the same bytes; another processor may train slightly different
weights, which is of no consequence, since no test knows a weight.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from edgeae.data.dataset import Data
from edgeae_export.quiet import import_tensorflow
from edgeae_runtime.cli.terminal import format_table

TARGET = Path(__file__).with_name("tiny.edgeae")
COLUMNS = ("temperature", "pressure", "vibration", "voltage", "current", "speed")


def readings(count: int) -> Data:
    """Return a healthy pump's readings: two causes, load and weather, show in six columns.

    The units differ as they do in practice, from a vibration of thousandths to a pressure that moves
    little around a large offset.
    """
    random = np.random.default_rng(5)
    load, weather = random.uniform(0, 1, count), random.uniform(-1, 1, count)
    columns = [
        60 + 15 * load + 5 * weather,  # °C
        101_000 + 300 * weather - 80 * load**2,  # Pa
        0.002 + 0.008 * load * (1 - 0.3 * weather),  # m/s
        -100 + 0.5 * load,  # V
        2 + 3 * load - 0.2 * weather,  # A
        2900 - 120 * load - 10 * weather,  # 1/min
    ]
    table = np.column_stack(columns)
    noise = 0.2 * table.std(axis=0) * random.standard_normal(table.shape)
    return Data((table + noise).astype(np.float32), COLUMNS)


def main() -> None:
    """Train, export, and say what came out."""
    import_tensorflow()
    from edgeae import TrainConfig, train
    from edgeae_export import Limits, export

    # Wider than the defaults: of 4 hidden units each matters to the int8 files, and a float32 decoder
    # that returns a pressure of 101,000 Pa in raw units has few digits left for its changes.
    limits = {
        "float32": Limits(error_median=1e-4, rank_correlation=0.9999, embedding_cosine=0.99999),
        "int8": Limits(error_median=0.05, rank_correlation=0.99, embedding_cosine=0.999),
    }
    config = TrainConfig(
        hidden=(4,),
        latent=2,
        scaler="standard",
        epochs=100,
        batch_size=32,
        learning_rate=0.01,
        validation_split=0.4,
    )
    trained = train(readings(1280), config)
    with TemporaryDirectory() as folder:
        run = Path(folder, "pump.run")
        trained.save(run)
        manifest = export(run, None, TARGET, limits=limits, force=True)
    rows = [["artifact", "bytes", "error moves", "rank corr."]]
    for artifact in manifest.artifacts:
        moved, rank = artifact.fidelity.error_median, artifact.fidelity.rank_correlation
        rows.append([artifact.path, str(artifact.bytes), f"{moved:.3%}", f"{rank:.5f}"])
    print(format_table(rows))
    print(f"last loss: {trained.history['loss'][-1]:.4g}, held out {trained.history['val_loss'][-1]:.4g}")
    print(f"{TARGET}: {sum(file.stat().st_size for file in TARGET.iterdir())} bytes in all")


if __name__ == "__main__":
    main()
