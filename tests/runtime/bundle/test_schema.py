"""The JSON Schema that other languages check a manifest with says what the runtime itself checks."""

import importlib.util
import json
from pathlib import Path

import pytest

import edgeae_runtime

jsonschema = pytest.importorskip("jsonschema")  # comes with Ray
SHIPPED = Path(edgeae_runtime.__file__).with_name("manifest.schema.json")


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(SHIPPED.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture
def manifest(tiny) -> dict:
    return json.loads((tiny / "manifest.json").read_bytes())


def test_the_schema_is_up_to_date() -> None:
    script = Path(__file__).parents[1] / "make_schema.py"
    spec = importlib.util.spec_from_file_location("make_schema", script)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert SHIPPED.read_bytes() == maker.schema(), f"run python {script.name}"


def test_it_accepts_a_manifest_and_one_of_a_later_version(validator, manifest) -> None:
    validator.validate(manifest)
    validator.validate({**manifest, "surprise": 1})


def wrong(manifest, path, value) -> dict:
    *parents, last = path
    place = manifest
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return manifest


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["latent_size"], None),
        (["latent_size"], "two"),
        (["error"], "mae"),
        (["provenance", "data"], 1),
        (["input", "shape"], 6),
        (["artifacts", 0, "role"], "painter"),
        (["artifacts", 0, "fidelity", "rows"], None),
        (["reference", "quantiles", "0.5"], "low"),
    ],
)
def test_what_the_runtime_refuses_it_refuses_too(bundle, validator, manifest, path, value) -> None:
    damaged = wrong(manifest, path, value)
    bundle.write("manifest.json", json.dumps(damaged).encode())
    with pytest.raises(edgeae_runtime.BundleError):
        edgeae_runtime.Bundle(bundle.path)
    assert not validator.is_valid(damaged)
