"""Change one number of a TFLite model at a time, and load and run what the runtime's check lets through::

    python tests/runtime/fuzz_tflite.py scorer.int8.tflite scorer SEED COUNT [SKIP]

Each change is printed before it is tried, so that the last line names what ended the process. Tests run it
in a process of its own; COUNT 0 tries all changes.
"""

import json
import random
import sys
from collections import Counter
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

INTEGERS = [-1, -2, 0, 1, 2, 3, 7, 100, 127, 128, 255, 2**15, 2**24, 2**31 - 1, -(2**31), 2**40, -129]
FLOATS = [0.0, -1.0, float("nan"), float("inf"), 1e38, 1e-38, 1e-9, 1e9]


def places(thing, path=()):
    """Yield the path of every field and entry below an object of the schema's object API."""
    if isinstance(thing, list | np.ndarray):
        entries = enumerate(thing)
    elif type(thing).__module__ == schema.__name__:
        entries = vars(thing).items()
    else:
        return
    for key, value in entries:
        if path[-1:] == ("data",) and key >= 16:  # weights may be anything
            return
        yield (*path, key), value
        yield from places(value, (*path, key))


def changes(model):
    """Yield each change as a path and a new value."""
    for path, value in places(model):
        if isinstance(value, int | np.integer):
            yield from ((path, new) for new in INTEGERS if new != value)
        elif isinstance(value, float | np.floating):
            yield from ((path, new) for new in FLOATS)
        elif value is None:
            yield from ((path, new) for new in ([], [0], [-1], [2**31 - 1], 0, b"x"))
        else:
            yield path, None
            if isinstance(value, list | np.ndarray) and len(value):
                yield from ((path, new) for new in (list(value[:-1]), [*value, value[-1]], []))


def changed(model, path, value) -> bytes | None:
    """Return the file of a model with one change, which is undone; None where the schema cannot hold it."""
    *places, last = path
    place = model
    for key in places:
        place = getattr(place, key) if isinstance(key, str) else place[key]
    put = setattr if isinstance(last, str) else type(place).__setitem__
    before = getattr(place, last) if isinstance(last, str) else place[last]
    try:
        put(place, last, value)
    except (TypeError, ValueError, OverflowError):  # an array takes no text, or nothing at all
        return None
    try:
        builder = flatbuffers.Builder(8192)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
    except Exception:  # whatever the packer makes of it
        return None
    finally:
        put(place, last, before)


def damaged(content: bytes, source: random.Random) -> bytes:
    """Return the bytes with some of them changed; small ones are more often offsets, indices and lengths."""
    result = bytearray(content)
    for _ in range(source.randint(1, 4)):
        place = source.randrange(len(result))
        result[place] = source.choice([0, 1, 2, 4, 127, 128, 254, 255, source.randrange(256)])
    return bytes(result)


def attempt(content: bytes, role: str) -> str:
    from edgeae_runtime import EngineError
    from edgeae_runtime.engines.base import run_batches
    from edgeae_runtime.engines.registry import load_engine

    try:
        engine = load_engine("litert", content, role, 1)
        batch = np.linspace(-3, 3, 3 * int(np.prod(engine.shape)), dtype=np.float32)
        run_batches(engine, batch.reshape(3, *engine.shape), "int8", "tflite")
        engine.bind().run()
    except EngineError as error:
        return "refused" if "the TFLite model is refused" in str(error) else "failed"
    except (ValueError, RuntimeError):
        return "failed"
    return "ran"


def main(file: str, role: str, seed: str, count: str, skip: str = "0") -> None:
    content = Path(file).read_bytes()
    source = random.Random(int(seed))
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    everything = list(changes(model))
    chosen = source.sample(everything, int(count)) if int(count) else everything
    found: Counter[str] = Counter()
    for number, (path, value) in enumerate(chosen):
        bytewise = damaged(content, source)
        if number < int(skip):
            continue
        for kind, trial in (("field", changed(model, path, value)), ("bytes", bytewise)):
            if trial is not None:
                print(json.dumps([number, kind, ".".join(map(str, path)), repr(value)]), flush=True)
                found[f"{kind} {attempt(trial, role)}"] += 1
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
