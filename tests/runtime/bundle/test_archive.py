import io
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgeae_runtime
from edgeae_runtime import Bundle, BundleError


def told(path: Path, use=Bundle) -> str:
    """The error's text without the folder; one line, whatever went wrong."""
    with pytest.raises(BundleError) as caught:
        use(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def read_all(path: Path) -> list[bytes]:
    """Everything that a bundle can be asked for."""
    bundle = Bundle(path)
    return [
        *map(bundle.read_file, bundle.manifest.files),
        *map(bundle.read_artifact, bundle.manifest.artifacts),
    ]


# --- a folder and a zip file are the same --------------------------------------------------------


def test_a_folder_and_its_zip_file_hold_the_same(tiny, tiny_zip) -> None:
    assert Bundle(tiny).manifest == Bundle(tiny_zip).manifest
    assert read_all(tiny) == read_all(tiny_zip)
    artifact = Bundle(tiny).manifest.artifacts[0]
    assert Bundle(tiny_zip).read_artifact(artifact) == (tiny / artifact.path).read_bytes()


def test_a_folder_and_its_zip_file_compute_the_same(tiny, tiny_zip, rows, engine, precision) -> None:
    folder, packed = (
        edgeae_runtime.load(path, engine=engine, precision=precision).detect(rows)
        for path in (tiny, tiny_zip)
    )
    for found, expected in zip(packed, folder, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_compressed_zip_file_is_refused(tiny, tmp_path) -> None:
    """A few kilobytes could become gigabytes."""
    packed = shutil.make_archive(str(tmp_path / "pump"), "zip", tiny)
    assert told(Path(packed)) == (
        "manifest.json cannot be read (it is compressed; zip the bundle without compression (zip -0)); "
        "copy the bundle again"
    )


# --- files that are not there or not what they were ----------------------------------------------


def test_there_is_no_such_bundle(tmp_path) -> None:
    assert told(tmp_path / "pump.edgeae") == ("no such bundle; make one with `edgeae export` or copy it here")


def test_a_name_that_the_system_refuses(tmp_path) -> None:
    assert told(tmp_path / ("x" * 300)).startswith("no such bundle")


def test_a_folder_that_is_no_bundle(tmp_path) -> None:
    assert told(tmp_path) == "manifest.json is missing; copy the whole bundle again"


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04" + b"\0" * 100])
def test_a_file_that_is_no_bundle(tmp_path, content) -> None:
    path = tmp_path / "pump.edgeae"
    path.write_bytes(content)
    assert told(path) == "is neither a bundle's folder nor a zip file (truncated?); copy it again"


def test_a_zip_file_that_is_no_bundle(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "pump.edgeae", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert told(tmp_path / "pump.edgeae") == "manifest.json is missing; copy the whole bundle again"


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", ["scorer.int8.onnx", "golden.npz"])
def test_a_missing_file_is_named_when_it_is_needed(bundle, packed, name) -> None:
    (bundle.path / name).unlink()
    path = bundle.zipped() if packed else bundle.path
    assert Bundle(path).manifest.latent_size == 2  # what is not needed does not matter
    assert told(path, read_all) == f"{name} is missing; copy the whole bundle again"


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_truncated_artifact_says_how_long_it_should_be(bundle, packed) -> None:
    content = bundle.read("encoder.float32.onnx")
    bundle.write("encoder.float32.onnx", content[:-1])
    path = bundle.zipped() if packed else bundle.path
    assert told(path, read_all) == (
        f"encoder.float32.onnx has {len(content) - 1} bytes, the manifest says {len(content)}; "
        "copy the bundle again"
    )


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", ["encoder.float32.onnx", "golden.npz"])
def test_one_altered_bit_is_noticed(bundle, packed, name) -> None:
    content = bytearray(bundle.read(name))
    content[len(content) // 2] ^= 1
    bundle.write(name, bytes(content))
    path = bundle.zipped() if packed else bundle.path
    hexes = "[0-9a-f]{12}…"
    assert re.fullmatch(
        f"{name} was altered \\(SHA-256 {hexes}, the manifest says {hexes}\\); copy the bundle again",
        told(path, read_all),
    )


def test_an_altered_artifact_is_never_run(bundle, rows, engine, file_format) -> None:
    bundle.write(f"scorer.int8.{file_format}", bundle.read(f"scorer.float32.{file_format}"))
    autoencoder = edgeae_runtime.load(bundle.path, engine=engine, precision="int8")
    assert autoencoder.embed(rows).shape == (1000, 2)  # the encoder is whole
    for verb in (autoencoder.score, autoencoder.detect):
        with pytest.raises(
            BundleError, match=rf"scorer\.int8\.{file_format} has \d+ bytes, the manifest says"
        ):
            verb(rows)


def test_a_folder_in_the_place_of_an_artifact(bundle) -> None:
    (bundle.path / "scorer.int8.onnx").unlink()
    (bundle.path / "scorer.int8.onnx").mkdir()
    assert told(bundle.path, read_all) == (
        "scorer.int8.onnx cannot be read ([Errno 21] Is a directory: "
        f"'{bundle.path}/scorer.int8.onnx'); copy the bundle again"
    )


# --- damage of every kind ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(tiny_zip) -> bytes:
    return tiny_zip.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """One file for all of Hypothesis' examples."""
    return tmp_path_factory.mktemp("damaged") / "pump.edgeae"


unhurried = settings(deadline=None)  # files on a busy disk may take their time


@unhurried
@given(data=st.data())
def test_a_zip_file_cut_anywhere_is_refused(tiny, packed, scratch, data) -> None:
    scratch.write_bytes(packed[: data.draw(st.integers(0, len(packed) - 1))])
    told(scratch, read_all)


@unhurried
@given(data=st.data())
def test_a_damaged_zip_file_is_whole_or_refused(tiny, packed, scratch, data) -> None:
    damaged = bytearray(packed)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        directory = archive.start_dir  # from here on a byte means most
    places = st.integers(0, len(packed) - 1) | st.integers(directory, len(packed) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=5)):
        damaged[place] = byte
    scratch.write_bytes(damaged)
    try:
        found = read_all(scratch)
    except BundleError as error:
        assert "\n" not in str(error)
    else:
        assert found == read_all(tiny)


@unhurried
@given(content=st.binary(max_size=80))
def test_garbage_is_refused(scratch, content) -> None:
    scratch.write_bytes(content)
    told(scratch, read_all)


def test_an_encrypted_zip_file_is_refused(packed, scratch) -> None:
    damaged = bytearray(packed)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        entry = packed.rindex(b"PK\x01\x02", 0, packed.rindex(b"manifest.json"))
        damaged[archive.getinfo("manifest.json").header_offset + 6] |= 1
    damaged[entry + 8] |= 1
    scratch.write_bytes(damaged)
    assert told(scratch).startswith("manifest.json cannot be read (")


def test_a_name_with_a_zero_byte_is_refused(bundle) -> None:
    with bundle.manifest() as manifest:
        manifest["artifacts"][0]["path"] = "scorer\0.onnx"
    for path in (bundle.path, bundle.zipped()):
        told(path, read_all)
