"""What CONTRIBUTING.md says under "How to add": a new part of each kind works, in as many files as it says.

All are added to one copy of the packages, where an interpreter of its own then uses them as a user would.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "runtime" / "tiny.edgeae"
RUNTIME = "runtime/edgeae_runtime"
WORDS = {"One": 1, "Two": 2, "Three": 3, "Four": 4}
MOST = {
    "engine": 3,
    "architecture": 3,
    "format of files": 2,
    "sink": 3,
    "alarm rule": 2,
    "recipe": 1,
    "section of the report": 4,
    "field of the manifest": 3,
}
"""Files of the packages that a part of each kind may touch."""


class Copy:
    """A copy of the packages, and which of its files each kind of part touches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.touched: dict[str, set[str]] = {}
        for part in ("edgeae", "export", "runtime"):
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg*")
            )

    def write(self, kind: str, file: str, content: str) -> None:
        """Write a new file."""
        assert not (self.folder / file).exists()
        (self.folder / file).write_text(content)
        self.touched.setdefault(kind, set()).add(file)

    def insert(self, kind: str, file: str, *, after: str, lines: str) -> None:
        """Add to a file after the only place where something stands."""
        path = self.folder / file
        text = path.read_text()
        assert text.count(after) == 1, f"{file} has {text.count(after)} times {after!r}"
        path.write_text(text.replace(after, after + lines))
        self.touched.setdefault(kind, set()).add(file)

    def run(self, code: str, *arguments: object) -> dict[str, object]:
        """Run code that uses the copy; it prints one JSON object."""
        paths = [str(self.folder), str(self.folder / "export"), str(self.folder / "runtime")]
        head = f"import sys; sys.path[:0] = {paths!r}\n"
        words = [sys.executable, "-c", head + code, *map(str, arguments)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return found


def add_engine(copy: Copy) -> None:
    """ONNX Runtime under another name."""
    copy.write(
        "engine",
        f"{RUNTIME}/engines/again.py",
        '"""ONNX Runtime, again."""\n\nfrom .onnxruntime import OnnxRuntime\n\n\nclass Again(OnnxRuntime):\n'
        '    """The same."""\n',
    )
    registry = f"{RUNTIME}/engines/registry.py"
    copy.insert("engine", registry, after='Literal["auto", ', lines='"again", ')
    copy.insert(
        "engine",
        registry,
        after="ENGINES = (\n",
        lines='    EngineRecord("again", ("onnx",), "Again", "onnxruntime", "again"),\n',
    )
    copy.insert(
        "engine",
        "runtime/pyproject.toml",
        after="[project.optional-dependencies]\n",
        lines='again = ["again"]\n',
    )


def add_architecture(copy: Copy) -> None:
    """A layer to the code and one back, with a hyperbolic tangent between."""
    copy.write(
        "architecture",
        "edgeae/models/squashed.py",
        '''"""A code between -1 and 1."""

import math

import keras

from .layers import Layers, in_a_row


def squashed(shape, hidden, latent, output_activation, *, layers=None):
    """Build it; see `architectures.Builder`."""
    size = math.prod(shape)
    inputs = keras.Input((size,), name="input")
    code = Layers().dense(latent, "tanh", name="embedding")(inputs)
    return in_a_row(inputs, code, (latent,), [Layers().dense(size, output_activation, "reconstruction")])
''',
    )
    table = "edgeae/models/architectures.py"
    copy.insert("architecture", table, after='Arch: TypeAlias = Literal["dense", ', lines='"squashed", ')
    copy.insert(
        "architecture",
        table,
        after="ARCHITECTURES: dict[Arch, Architecture] = {\n",
        lines="""    "squashed": Architecture(
        builder="squashed:squashed",
        summary="a code between -1 and 1",
        axes=None,
        samples="any shape, flattened",
        default_hidden=lambda shape: (),
        default_hidden_text="none",
        hidden_layers=(0, 0),
    ),
""",
    )


def add_format(copy: Copy) -> None:
    """Files with a number on each line."""
    copy.write(
        "format of files",
        f"{RUNTIME}/readers/numbers.py",
        '''"""A number on each line."""

import numpy as np

from .source import Source
from .table import OpenTable, Wanted, of_array


def read(source: Source, wanted: Wanted) -> OpenTable:
    """Open the numbers, six to a sample."""
    values = np.array(source.path.read_text().split(), np.float32)
    return of_array(values.reshape(-1, 6), source.where, wanted)
''',
    )
    copy.insert(
        "format of files",
        f"{RUNTIME}/readers/open.py",
        after="READERS = (  # the first that a name fits; CSV is what nothing else is known by\n",
        lines='    Reader(("*.numbers",), "numbers"),\n',
    )


def add_sink(copy: Copy) -> None:
    """Results into a file."""
    copy.write(
        "sink",
        f"{RUNTIME}/watch/sinks/file.py",
        '''"""Results into a file."""

from pathlib import Path

from ..events import Delivered, Post
from .sink import Sink


class FileSink(Sink):
    """Adds each result to a file."""

    ready, ahead = True, 1

    def __init__(self, path: Path) -> None:
        """Take the file."""
        self._path, self._count = path, 0

    def start(self, post: Post) -> None:
        """Take whom to hand events over to."""
        self._post = post

    def publish(self, result: bytes) -> int:
        """Write a result."""
        self._count += 1
        with self._path.open("ab") as file:
            file.write(result + b"\\n")
        self._post(Delivered((self._count,)))
        return self._count
''',
    )
    copy.insert(
        "sink",
        f"{RUNTIME}/watch/config.py",
        after='Meta(description="Take readings from this MQTT topic.")] = None\n',
        lines='    keep: Annotated[Path | None, Meta(description="Add results to this file.")] = None\n',
    )
    copy.insert(
        "sink",
        f"{RUNTIME}/watch/service.py",
        after='    """Return the sink that the settings choose: a case for each kind."""\n',
        lines="    if config.keep is not None:\n"
        "        from .sinks.file import FileSink\n\n        return FileSink(config.keep)\n",
    )


def add_alarm_rule(copy: Copy) -> None:
    """No alarm at all."""
    rule, config = f"{RUNTIME}/streams/alarm.py", f"{RUNTIME}/watch/config.py"
    copy.insert("alarm rule", rule, after="    warm_up: int = 0\n", lines="    never: bool = False\n")
    copy.insert(
        "alarm rule",
        rule,
        after="        self.windows += 1\n",
        lines="        if alarm.never:\n            return False\n",
    )
    copy.insert(
        "alarm rule",
        config,
        after='Meta(description="First windows that raise no alarm.")] = 0\n',
        lines='    alarm_never: Annotated[bool, Meta(description="Raise none.")] = False\n',
    )
    copy.insert(
        "alarm rule",
        config,
        after="            warm_up=self.alarm_warm_up,\n",
        lines="            never=self.alarm_never,\n",
    )


def add_recipe(copy: Copy) -> None:
    """The tools' defaults, with signed activations."""
    file = "export/edgeae_export/quantization/recipes.py"
    copy.insert("recipe", file, after="(ENTROPY, SIGNED, PER_TENSOR", lines=", PLAIN_SIGNED")
    copy.insert(
        "recipe",
        file,
        after='SIGNED = replace(COMPENSATED, name="signed", activations="signed")\n',
        lines='PLAIN_SIGNED = replace(SIGNED, name="plain-signed", rounding="nearest")\n',
    )


def add_section(copy: Copy) -> None:
    """A motto."""
    copy.write(
        "section of the report",
        "edgeae/report/sections/motto.py",
        '''"""A motto."""

from ..layout import Page


def section(page: Page) -> str:
    """Return the motto for so many values."""
    return f"<p>Know your {page.context.opened.input.size} values.</p>"
''',
    )
    contents = "edgeae/report/contents.py"
    copy.insert("section of the report", contents, after="    measures,\n", lines="    motto,\n")
    copy.insert("section of the report", contents, after="= {\n", lines='    "motto": motto.section,\n')


def add_field(copy: Copy) -> None:
    """A colour of the bundle."""
    kind = "field of the manifest"
    copy.insert(
        kind,
        f"{RUNTIME}/bundle/manifest.py",
        after="    provenance: Provenance | None = None\n",
        lines='    colour: str | None = None\n    """Of the label on the box."""\n',
    )
    copy.insert(
        kind,
        "export/edgeae_export/pipeline.py",
        after="        needs_runtime=NEEDS_RUNTIME,\n",
        lines='        colour="blue",\n',
    )
    before = (copy.folder / RUNTIME / "manifest.schema.json").read_bytes()
    code = (ROOT / "tests" / "runtime" / "make_schema.py").read_text()
    copy.run(code + "\nprint('{}')\n")
    assert (copy.folder / RUNTIME / "manifest.schema.json").read_bytes() != before
    copy.touched[kind].add(f"{RUNTIME}/manifest.schema.json")


ADD: dict[str, Callable[[Copy], None]] = {
    "engine": add_engine,
    "architecture": add_architecture,
    "format of files": add_format,
    "sink": add_sink,
    "alarm rule": add_alarm_rule,
    "recipe": add_recipe,
    "section of the report": add_section,
    "field of the manifest": add_field,
}

USE_RUNTIME = """
import json, os, sys
from pathlib import Path
import numpy as np
from click.testing import CliRunner
import edgeae_runtime
from edgeae_runtime.cli.main import main

bundle, here = map(Path, sys.argv[1:])
rows = np.load(bundle / "golden.npz")["input"]
(here / "rows.numbers").write_text("\\n".join(map(str, rows.ravel().tolist())))
(here / "rows.jsonl").write_text("\\n".join(map(json.dumps, rows.tolist())))

def run(*words):
    done = CliRunner().invoke(main, [*map(str, words)])
    assert done.exit_code == 0, done.output
    return done.stdout

choice = "--engine", "again", "--precision", "float32"
lines = run("score", bundle, here / "rows.numbers", *choice).splitlines()
scored = [json.loads(line)["error"] for line in lines]
known = edgeae_runtime.load(bundle, engine="onnxruntime", precision="float32").score(rows)
again = edgeae_runtime.load(bundle, engine="again", precision="float32").score(rows)
tuned = {pair["engine"] for pair in json.loads(run("tune", bundle, "--json"))["pairs"]}

os.dup2(os.open(here / "rows.jsonl", os.O_RDONLY), 0)
settings = edgeae_runtime.watch.WatchConfig(
    keep=here / "kept", alarm_never=True, threshold=0.0, state=here / "state", engine="again"
)
edgeae_runtime.watch.run(bundle, settings)
kept = [json.loads(line) for line in (here / "kept").read_text().splitlines()]
options = run("watch", "--help")
print(json.dumps({
    "engine": bool("again" in tuned and (again == known).all()),
    "format of files": bool(np.allclose(scored, known, rtol=1e-6)),
    "sink": len(kept) == len(rows) and "--keep" in options,
    "alarm rule": all(r["anomaly"] and not r["alarm"] for r in kept) and "--alarm-never" in options,
}))
"""

USE_TRAINER = """
import json, sys
from pathlib import Path
import numpy as np
import keras
import edgeae, edgeae_export

here = Path(sys.argv[1])
rng = np.random.default_rng(0)
basis = np.linalg.qr(rng.normal(size=(6, 2)))[0]
rows = (rng.normal(size=(400, 2)) @ basis.T + 0.2 * rng.normal(size=(400, 6))).astype(np.float32)
encoder = keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])
decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(6)])
encoder.set_weights([basis, np.full(2, 1e-3)])
decoder.set_weights([basis.T, np.full(6, 1e-3)])
chosen = {"formats": ("onnx",), "precisions": ("int8",), "recipe": "plain-signed"}
edgeae_export.export((encoder, decoder), rows, here / "x.edgeae", **chosen)
manifest = json.loads((here / "x.edgeae" / "manifest.json").read_bytes())
data = edgeae.Data(rows, None)
trained = edgeae.train(data, edgeae.TrainConfig(arch="squashed", latent=2, epochs=1, batch_size=64))
trained.save(here / "x.run")
edgeae.write_report(here / "x.run", here / "x.html")
code = trained.model.get_layer("encoder").predict(1000 * rows, verbose=0)
print(json.dumps({
    "architecture": bool(np.abs(code).max() <= 1 and trained.config.hidden == ()),
    "recipe": {a["recipe"]["name"] for a in manifest["artifacts"]} == {"plain-signed"},
    "section of the report": "<p>Know your 6 values.</p>" in (here / "x.html").read_text(),
    "field of the manifest": manifest["colour"] == "blue",
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    made = Copy(tmp_path_factory.mktemp("house"))
    for add in ADD.values():
        add(made)
    return made


@pytest.fixture(scope="module")
def used(copy: Copy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Of each kind, whether the new part does what it should."""
    here = tmp_path_factory.mktemp("used")
    return copy.run(USE_RUNTIME, BUNDLE, here) | copy.run(USE_TRAINER, here)


def written() -> dict[str, int]:
    """Return of each kind in how many files a part is added, as the text says."""
    text = re.split(r"^## ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    (section,) = (part for part in text if part.startswith("How to add\n"))
    items = re.findall(r"^- \*\*(?:An?) ([^*]+)\*\*(.*?)(?=^- |\Z)", section, re.MULTILINE | re.DOTALL)
    return {kind: WORDS[re.search(r"\b(One|Two|Three|Four)\s+files?\.", said)[1]] for kind, said in items}


def test_the_text_tells_of_every_kind() -> None:
    assert set(written()) == set(ADD)


@pytest.mark.parametrize("kind", ADD)
def test_a_part_is_added_in_as_few_files_as_the_text_says(copy: Copy, kind: str) -> None:
    assert len(copy.touched[kind]) == written()[kind] <= MOST[kind]


@pytest.mark.parametrize("kind", ADD)
def test_a_new_part_works(used: dict[str, object], kind: str) -> None:
    assert used[kind] is True
