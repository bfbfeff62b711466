import hashlib
import json
import re

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_np

import edgeae_runtime
from edgeae_runtime import Artifact, BundleError, Fidelity, Input, Manifest, Scaler, Threshold
from edgeae_runtime.bundle.codec import FORMAT_VERSION, decode_manifest, encode_manifest
from edgeae_runtime.bundle.formulas import reconstruction_error
from edgeae_runtime.bundle.manifest import Calibration, Column, DataFile, Provenance, artifact_name

ROLE = "Invalid enum value 'x'"
unhurried = settings(deadline=None)

EPSILON = float(np.finfo(np.float32).eps)


def bounded(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32)


# --- the scaler ----------------------------------------------------------------------------------


@unhurried
@given(
    st_np.arrays(np.float32, (5, 2), elements=bounded(0, 0.0078125)),
    st.sampled_from([(100.0, -100.0), (-100.0, 100.0)]),
)
def test_a_range_of_a_hundredth_around_a_hundred_keeps_all_its_digits(steps, offset) -> None:
    scaler = Scaler(kind="minmax", offset=offset, gain=(100.0, 128.0))
    samples = np.array(offset, np.float32) + steps
    by_hand = (samples.astype(np.float64) - np.array(offset)) * np.array([100.0, 128.0])
    scaled = scaler.scale(samples)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, by_hand, rtol=EPSILON, atol=0)


@unhurried
@given(
    st_np.arrays(np.float32, (4, 3), elements=bounded(-10_000, 10_000)),
    st.tuples(*[bounded(-1000, 1000)] * 3),
    st.tuples(*[bounded(2**-10, 1024)] * 3),
)
def test_raw_units_come_back_to_within_their_own_rounding(samples, offset, gain) -> None:
    scaler = Scaler(kind="standard", offset=offset, gain=gain)
    back = scaler.unscale(scaler.scale(samples))
    assert back.dtype == np.float32
    rounding = 2 * EPSILON * (np.abs(samples) + 2 * np.abs(np.array(offset)))
    assert (np.abs(back.astype(np.float64) - samples) <= rounding + 1e-37).all()


def test_one_offset_and_gain_hold_for_all_pixels_of_an_image() -> None:
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    scaled = Scaler(kind="minmax", offset=(4.0,), gain=(0.5,)).scale(images)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, (np.arange(24.0).reshape(2, 3, 4) - 4) / 2)


def test_as_many_as_the_last_axis_has_hold_for_each_time_of_a_window() -> None:
    windows = np.ones((2, 3, 2), np.float32)
    scaled = Scaler(kind="standard", offset=(0.0, 1.0), gain=(2.0, 5.0)).scale(windows)
    np.testing.assert_array_equal(scaled, np.broadcast_to([2.0, 0.0], (2, 3, 2)))


def test_scaling_leaves_the_samples_of_the_caller_alone() -> None:
    samples = np.ones((2, 1), np.float32)
    scaler = Scaler(kind="minmax", offset=(4.0,), gain=(0.5,))
    scaler.unscale(scaler.scale(samples))
    assert samples.tolist() == [[1.0], [1.0]]


COUNTS = "scaler: {} offsets and {} gains; want as many"
NUMBERS = "scaler: as float32, every offset and gain must be finite and no gain zero"


@pytest.mark.parametrize(
    ("offset", "gain", "told"),
    [
        ((), (), COUNTS.format(0, 0)),
        ((0.0, 1.0), (1.0,), COUNTS.format(2, 1)),
        ((0.0,), (0.0,), NUMBERS),
        ((0.0,), (-0.0,), NUMBERS),
        ((float("nan"),), (1.0,), NUMBERS),
        ((0.0,), (float("inf"),), NUMBERS),
        # What they become in float32, in which everything is computed, counts.
        ((1e39,), (1.0,), NUMBERS),
        ((0.0,), (1e39,), NUMBERS),
        ((0.0,), (1e-46,), NUMBERS),
    ],
)
def test_a_scaler_that_loses_the_samples_is_refused(offset, gain, told) -> None:
    with pytest.raises(ValueError) as caught:
        Scaler(kind="minmax", offset=offset, gain=gain)
    assert str(caught.value) == told


# --- the error -----------------------------------------------------------------------------------


def test_the_error_of_a_row_is_its_mean_squared_difference() -> None:
    scaled = np.array([[1, 2], [3, 5], [0, 0]], np.float32)
    reconstruction = np.array([[0, 2], [3, 1], [0, 0]], np.float32)
    assert reconstruction_error(scaled, reconstruction).tolist() == [0.5, 8.0, 0.0]
    assert scaled.tolist() == [[1, 2], [3, 5], [0, 0]]


@unhurried
@given(
    st_np.arrays(np.float32, (4, 2, 3), elements=bounded(-1000, 1000)),
    st_np.arrays(np.float32, (4, 2, 3), elements=bounded(-1000, 1000)),
    st.permutations(range(4)),
)
def test_the_error_is_numpys_in_float64_and_each_rows_own(scaled, reconstruction, order) -> None:
    error = reconstruction_error(scaled, reconstruction)
    assert error.dtype == np.float64
    difference = scaled.astype(np.float64) - reconstruction.astype(np.float64)
    np.testing.assert_allclose(error, (difference**2).mean(axis=(1, 2)), rtol=1e-14, atol=0)
    np.testing.assert_array_equal(reconstruction_error(scaled[order], reconstruction[order]), error[order])


# --- writing and reading -------------------------------------------------------------------------

numbers = st.floats(allow_nan=False, allow_infinity=False)
normal = st.floats(2**-100, 2.0**100)
counts = st.integers(0, 2**40)
scalers = st.lists(st.tuples(bounded(-1e9, 1e9), normal), min_size=1, max_size=3).map(
    lambda pairs: Scaler(kind="minmax", offset=tuple(o for o, _ in pairs), gain=tuple(g for _, g in pairs))
)
thresholds = st.builds(
    Threshold, value=numbers, rows=counts, quantiles=st.dictionaries(st.text(), numbers, max_size=3)
)
maybe = st.none() | numbers
fidelities = st.builds(
    Fidelity,
    rows=counts,
    error_median=numbers,
    error_p99=numbers,
    rank_correlation=numbers,
    embedding_cosine=maybe,
    reconstruction_max=maybe,
    false_alarms=numbers,
    false_alarms_reference=numbers,
)
artifacts = st.builds(
    Artifact,
    path=st.sampled_from(["scorer.int8.onnx", "ä b.tflite"]),
    bytes=counts,
    opset=st.none() | counts,
    trials=st.just(()),
    fidelity=fidelities,
    threshold=thresholds,
)
manifests = st.builds(
    Manifest,
    format_version=st.just(FORMAT_VERSION),
    input=st.builds(Input, shape=st.tuples(counts), window=st.none() | counts, stride=st.none() | counts),
    scaler=scalers,
    latent_size=counts,
    reference=thresholds,
    files=st.dictionaries(st.sampled_from(["golden.npz", "autoencoder.int8.h"]), st.text()),
    artifacts=st.lists(artifacts, max_size=2).map(tuple),
    needs_runtime=st.none() | st.text(),
    id=st.none() | st.text(),
    columns=st.lists(st.builds(Column), max_size=2).map(tuple),
    calibration=st.none() | st.builds(Calibration, rows=counts, independent_rows=st.none()),
    provenance=st.none()
    | st.builds(
        Provenance,
        data=st.lists(st.builds(DataFile, rows=st.none() | counts), max_size=2).map(tuple),
        settings=st.dictionaries(st.text(), st.none() | st.booleans() | st.text(), max_size=2),
    ),
)


@unhurried
@given(manifests)
def test_a_manifest_comes_back_as_it_was_and_the_same_one_gives_the_same_bytes(manifest) -> None:
    content = encode_manifest(manifest)
    assert decode_manifest(content, "pump.edgeae") == manifest
    assert encode_manifest(decode_manifest(content, "pump.edgeae")) == content


def test_a_manifest_is_text_for_people_too(tiny) -> None:
    content = encode_manifest(edgeae_runtime.Bundle(tiny).manifest)
    assert content.startswith(b'{\n  "format_version": 2,\n  "input": {\n')
    assert content.endswith(b"}\n")
    assert content == (tiny / "manifest.json").read_bytes()


def told(content: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        decode_manifest(content, "pump.edgeae")
    text = str(caught.value)
    assert "\n" not in text
    return text


def changed(tiny, change) -> bytes:
    manifest = json.loads((tiny / "manifest.json").read_bytes())
    change(manifest)
    return json.dumps(manifest).encode()


def test_a_newer_format_says_so_whatever_else_it_holds() -> None:
    newer = msgspec.json.encode({"format_version": FORMAT_VERSION + 1, "tensors": []})
    assert told(newer) == (
        f"pump.edgeae: bundle format {FORMAT_VERSION + 1}, but this runtime reads up to {FORMAT_VERSION}; "
        "update it (pip install --upgrade edgeae-runtime) or export again with an older edgeae"
    )


@pytest.mark.parametrize("needs", ["9.9", "10.0.1rc1"])
def test_a_newer_format_names_the_runtime_that_it_needs(needs) -> None:
    newer = msgspec.json.encode({"format_version": 3, "needs_runtime": needs, "input": "of another kind"})
    assert told(newer) == (
        f"pump.edgeae: bundle format 3 needs edgeae-runtime {needs} or newer, and this is "
        f"{edgeae_runtime.__version__}; update it (pip install --upgrade edgeae-runtime) or export again "
        "with an older edgeae"
    )


def test_what_no_version_can_be_is_not_repeated() -> None:
    newer = msgspec.json.encode({"format_version": 3, "needs_runtime": "1\n[2J now run rm"})
    assert ", but this runtime reads up to 2; update it" in told(newer)


def places(value, path=()):
    """Every record of a manifest."""
    if isinstance(value, dict):
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


FREE = {"files", "quantiles", "producer", "settings"}
"""Tables with keys of their own: what is added there is no unknown field."""


def test_fields_that_a_later_version_adds_are_ignored_wherever_they_stand(tiny) -> None:
    content = (tiny / "manifest.json").read_bytes()
    expected, paths = decode_manifest(content, "here"), list(places(json.loads(content)))
    assert len(paths) > 50
    for path in paths:
        if path and path[-1] in FREE:
            continue
        newer = json.loads(content)
        place = newer
        for key in path:
            place = place[key]
        place["of a later version"] = {"anything": [1, None]}
        assert decode_manifest(json.dumps(newer).encode(), "here") == expected


@pytest.mark.parametrize(
    "name", ["needs_runtime", "id", "columns", "calibration", "provenance", "producer", "operators"]
)
def test_each_optional_field_may_be_absent(tiny, name) -> None:
    found = json.loads((tiny / "manifest.json").read_bytes())
    if name == "producer":  # this one may not
        del found[name]
        assert "missing required field `producer`" in told(json.dumps(found).encode())
        return
    for record in found["artifacts"] if name == "operators" else [found]:
        record.pop(name, None)
    assert not getattr(decode_manifest(json.dumps(found).encode(), "here"), name, None)


def test_every_file_of_a_bundle_is_listed_once(tiny) -> None:
    manifest = edgeae_runtime.Bundle(tiny).manifest
    names = {path.name for path in tiny.iterdir()} - {"manifest.json", "manifest.sha256"}
    assert manifest.all_files.keys() == names
    for name, digest in manifest.all_files.items():
        assert hashlib.sha256((tiny / name).read_bytes()).hexdigest() == digest


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(columns=[{"name": "t", "role": "x"}]), f"{ROLE} - at `$.columns[0].role`"),
        (lambda m: m.update(provenance={"data": 1}), "Expected `array`, got `int` - at `$.provenance.data`"),
        (lambda m: m.pop("format_version"), "Object missing required field `format_version`"),
        (lambda m: m.pop("latent_size"), "Object missing required field `latent_size`"),
        (lambda m: m["input"].pop("shape"), "Object missing required field `shape` - at `$.input`"),
        (lambda m: m.update(format_version="1"), "Expected `int`, got `str` - at `$.format_version`"),
        (lambda m: m.update(latent_size="2"), "Expected `int`, got `str` - at `$.latent_size`"),
        (lambda m: m.update(error="mae"), "Invalid enum value 'mae' - at `$.error`"),
        (
            lambda m: m["artifacts"][1].update(precision="int4"),
            "Invalid enum value 'int4' - at `$.artifacts[1].precision`",
        ),
        (
            lambda m: m["artifacts"][0]["threshold"].update(value=None),
            "Expected `float`, got `null` - at `$.artifacts[0].threshold.value`",
        ),
        (lambda m: m["scaler"].update(gain=[0.0] * 6), f"{NUMBERS} - at `$.scaler`"),
        (lambda m: m["scaler"].update(gain=[1.0]), f"{COUNTS.format(6, 1)} - at `$.scaler`"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named(tiny, change, reason) -> None:
    found = told(changed(tiny, change))
    assert found == f"pump.edgeae: manifest.json is not valid ({reason}); copy the bundle again"


@pytest.mark.parametrize("name", ["../scorer.onnx", "/etc/passwd", "a/b.onnx", "a\\b.onnx", ".hidden", ".."])
def test_the_files_of_a_bundle_lie_in_it_and_nowhere_else(tiny, name) -> None:
    found = told(changed(tiny, lambda manifest: manifest["artifacts"][0].update(path=name)))
    assert f"({name!r} must be a plain file name - at `$.artifacts[0]`)" in found
    found = told(changed(tiny, lambda manifest: manifest["files"].update({name: "0" * 64})))
    assert f"({name!r} must be a plain file name)" in found


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\x00" * 20,
        b'{"format_version": 1, "x": "\xff"}',
        b'{"format_version": 1, "input": ' + b"[" * 100_000,
    ],
)
def test_what_is_no_manifest_is_refused(content) -> None:
    assert re.fullmatch(
        r"pump\.edgeae: manifest\.json is not valid \(.+\); copy the bundle again", told(content)
    )


def test_a_manifest_cut_anywhere_is_refused(tiny) -> None:
    content = (tiny / "manifest.json").read_bytes().rstrip()
    for length in range(0, len(content), 7):
        assert "manifest.json is not valid" in told(content[:length])


def test_an_artifact_is_found_by_what_it_is(tiny) -> None:
    manifest = edgeae_runtime.Bundle(tiny).manifest
    found = manifest.find("scorer", "int8", "tflite")
    assert found is not None
    assert (found.role, found.precision, found.format) == ("scorer", "int8", "tflite")
    assert found.path == artifact_name("scorer", "int8", "tflite") == "scorer.int8.tflite"
    assert manifest.find("scorer", "float16", "tflite") is None
