import hashlib
import json
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, get_args

import click.testing
import numpy as np
import pytest

import edgeae_runtime
from edgeae_runtime import Format
from edgeae_runtime.cli.main import main
from edgeae_runtime.engines.registry import ENGINES, engines_of, find_engine

PRECISIONS = ["float32", "int8"]


class Bundle:
    """A copy of the tiny bundle that a test may damage, or change so that its manifest still agrees."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Change a file behind the manifest's back; the manifest's own digest agrees with it, though."""
        (self.path / name).write_bytes(content)
        if name == "manifest.json":
            line = f"{hashlib.sha256(content).hexdigest()}  {name}\n"
            (self.path / "manifest.sha256").write_text(line)

    def replace(self, name: str, content: bytes) -> None:
        """Change a file and what the manifest says of it, so that no hash tells."""
        self.write(name, content)
        with self.manifest() as manifest:
            digest = hashlib.sha256(content).hexdigest()
            if name in manifest["files"]:
                manifest["files"][name] = digest
            for artifact in manifest["artifacts"]:
                if artifact["path"] == name:
                    artifact.update(bytes=len(content), sha256=digest)

    def replace_golden(self, **changed: np.ndarray) -> None:
        """Change arrays of the golden file, and what the manifest says of it."""
        arrays = {**np.load(self.path / "golden.npz"), **changed}
        scratch = self.path / "scratch.npz"
        np.savez(scratch, **arrays)
        content = scratch.read_bytes()
        scratch.unlink()
        self.replace("golden.npz", content)

    @contextmanager
    def manifest(self) -> Iterator[dict[str, Any]]:
        """Give the manifest to change; it is written back."""
        manifest = json.loads(self.read("manifest.json"))
        yield manifest
        self.write("manifest.json", json.dumps(manifest).encode())

    def keep(self, part: str) -> None:
        """Drop the artifacts in whose file name this part is missing."""
        with self.manifest() as manifest:
            kept = [artifact for artifact in manifest["artifacts"] if part in artifact["path"]]
            manifest["artifacts"] = kept

    def burden(self, *operators: str, side: int) -> None:
        """Let the float32 ONNX scorer also compute something large, none of which gets into its error."""
        name = "scorer.float32.onnx"
        self.replace(name, burden(self.read(name), *operators, side=side))

    def never_end(self) -> None:
        """Give that scorer some hours of work in little memory."""
        self.burden(*["MatMul"] * 2000, side=2000)

    def zipped(self) -> Path:
        """Return the same as one uncompressed zip file, beside the folder."""
        return zip_folder(self.path, self.path.with_suffix(".zip"))


def burden(content: bytes, *operators: str, side: int) -> bytes:
    """A model that also computes something large from its input, and adds nothing of it to the error."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper.make_node
    model = onnx.load_model_from_string(content)
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["own_error" if name == "error" else name for name in node.output]
    shape = onnx.numpy_helper.from_array(np.array([side, side], np.int64), "large_shape")
    none = onnx.numpy_helper.from_array(np.array(0, np.float32), "nothing")
    graph.initializer.extend([shape, none])
    graph.node.extend(
        [make("ReduceMax", ["input"], ["top"], keepdims=0), make("Expand", ["top", "large_shape"], ["x0"])]
    )
    for number, operator in enumerate(operators):
        graph.node.append(make(operator, [f"x{number}", f"x{number}"], [f"x{number + 1}"]))
    graph.node.extend(
        [
            make("ReduceMin", [f"x{len(operators)}"], ["low"], keepdims=0),
            make("IsNaN", ["low"], ["odd"]),
            make("Cast", ["odd"], ["odd_number"], to=onnx.TensorProto.FLOAT),
            make("Mul", ["odd_number", "nothing"], ["zero"]),
            make("Add", ["own_error", "zero"], ["error"]),
        ]
    )
    return bytes(model.SerializeToString())


def zip_folder(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
    return target


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The committed bundle; see make_tiny_bundle.py."""
    return Path(__file__).with_name("tiny.edgeae")


@pytest.fixture(scope="session")
def tiny_zip(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return zip_folder(tiny, tmp_path_factory.mktemp("zipped") / "tiny.edgeae")


@pytest.fixture
def bundle(tiny: Path, tmp_path: Path) -> Bundle:
    return Bundle(shutil.copytree(tiny, tmp_path / "pump.edgeae"))


@pytest.fixture(scope="session")
def golden(tiny: Path) -> dict[str, np.ndarray]:
    return dict(np.load(tiny / "golden.npz"))


@pytest.fixture(scope="session")
def rows(tiny: Path) -> np.ndarray:
    """Readings with the mean and the spread of the training data, but not its correlations."""
    scaler = edgeae_runtime.Bundle(tiny).manifest.scaler
    spread = np.random.default_rng(3).standard_normal((1000, len(scaler.offset)))
    rows = np.float32(np.array(scaler.offset) + spread / np.array(scaler.gain))
    rows.flags.writeable = False
    return rows


def installed_here(name: str) -> str:
    record = find_engine(name)
    if not record.is_installed():
        pytest.skip(f"{record.distribution} is not installed")  # it has no wheels for some systems
    return record.name


@pytest.fixture(scope="session", params=[record.name for record in ENGINES])
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine of the registry that is installed here."""
    return installed_here(request.param)


@pytest.fixture(scope="session", params=[record.name for record in engines_of("onnx")])
def onnx_engine(request: pytest.FixtureRequest) -> str:
    """Every engine that runs ONNX files."""
    return installed_here(request.param)


@pytest.fixture(scope="session", params=[r.name for f in get_args(Format) for r in engines_of(f)[1:]])
def second_engine(request: pytest.FixtureRequest) -> str:
    """Every engine that is not the reference of its format."""
    return installed_here(request.param)


@pytest.fixture(scope="session")
def file_format(engine: str) -> str:
    """What the engine runs of the tiny bundle."""
    return find_engine(engine).formats[0]


@pytest.fixture(scope="session", params=PRECISIONS)
def precision(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def ae(tiny: Path, engine: str, precision: str) -> edgeae_runtime.Autoencoder:
    """The tiny bundle, loaded once for each engine and precision."""
    return edgeae_runtime.load(tiny, engine=engine, precision=precision)


@pytest.fixture(scope="session")
def exact(tiny: Path, engine: str) -> edgeae_runtime.Autoencoder:
    """The tiny bundle in float32, loaded once for each engine."""
    return edgeae_runtime.load(tiny, engine=engine, precision="float32")


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the import of engines fail as it does where they are not installed."""

    def hide(*names: str) -> None:
        for package in (find_engine(name).package for name in names):
            loaded = [module for module in sys.modules if module.startswith(f"{package}.")]
            for module in (package, *loaded):
                monkeypatch.setitem(sys.modules, module, None)

    return hide


@pytest.fixture
def run() -> Callable[..., click.testing.Result]:
    """Run a command in this process and expect it to end well."""

    def call(*arguments: object) -> click.testing.Result:
        result = click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result

    return call


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """Run a command, expect one line of error and nothing written; return the line."""

    def call(*arguments: object, status: int = 1) -> str:
        before = snapshot(tmp_path)
        result = click.testing.CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert isinstance(result.exception, SystemExit), repr(result.exception)
        assert result.exit_code == status
        assert result.stderr.count("\n") == 1, result.stderr
        assert result.stderr.startswith("Error: ")
        assert snapshot(tmp_path) == before
        return result.stderr.removeprefix("Error: ").rstrip("\n")

    return call


@pytest.fixture
def installed() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed command in a process of its own."""
    command = Path(sys.executable).with_name("edgeae")

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [command, *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    return call


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """Inside the block no file grows beyond 2 kB: the system refuses the write, as on a full disk."""

    @contextmanager
    def limited() -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder, hidden ones too, with what is in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(name="snapshot")
def snapshot_fixture() -> Callable[[Path], dict[str, bytes | None]]:
    return snapshot
