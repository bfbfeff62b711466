import json

import numpy as np
import pytest
from click.testing import CliRunner

from edgeae.bench_keras import peers
from edgeae_export import export
from edgeae_export.errors import RunError
from edgeae_runtime import Bundle, DataError, load
from edgeae_runtime.cli.main import main

NAMES = ["Keras model.predict", "Keras model(x)", "TensorFlow tf.function"]


@pytest.fixture(scope="module")
def run_and_bundle(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    trained.save(folder / "digits.run")
    export(
        folder / "digits.run", None, folder / "digits.edgeae", formats=("tflite",), precisions=("float32",)
    )
    return folder / "digits.run", folder / "digits.edgeae"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["", "autoencoder.keras"])
@pytest.mark.parametrize("count", [1, 5])
def test_each_way_does_a_scorers_work(run_and_bundle, digits, model, count):
    run, bundle = run_and_bundle
    samples = digits.values[:count]
    expected = load(bundle).detect(samples)
    calls = peers(str(run / model), Bundle(bundle).manifest)(samples)
    assert list(calls) == NAMES
    for call in calls.values():
        found = call()
        np.testing.assert_allclose(found["embedding"], expected.embedding, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found["error"], expected.error, rtol=1e-3)


@pytest.mark.slow
def test_the_command_sets_them_beside_the_bundle(run_and_bundle, tmp_path):
    run, bundle = run_and_bundle
    words = [
        "bench",
        bundle,
        "--against",
        run,
        "--seconds",
        "1",
        "--batch",
        "1",
        "--json",
        tmp_path / "b.json",
    ]
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    timings = json.loads((tmp_path / "b.json").read_bytes())["timings"]
    assert [timing["candidate"] for timing in timings] == ["litert float32", *NAMES]
    assert all(timing["faster"][2] < 1 and timing["fidelity"] is None for timing in timings[1:])
    assert all(name in result.stdout for name in NAMES)


@pytest.mark.slow
def test_another_model_than_the_bundles_is_refused(run_and_bundle, tmp_path):
    import keras

    keras.Sequential([keras.Input((9,)), keras.layers.Dense(3), keras.layers.Dense(9)]).save(
        tmp_path / "a.keras"
    )
    manifest = Bundle(run_and_bundle[1]).manifest
    with pytest.raises(DataError, match=r"takes samples of shape \(9,\), the bundle \(8, 8\)"):
        peers(str(tmp_path / "a.keras"), manifest)
    with pytest.raises(RunError, match="no such model file"):
        peers(str(tmp_path / "b.keras"), manifest)
