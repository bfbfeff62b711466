"""Renew ``manifest.schema.json``, the JSON Schema of a bundle's manifest that the runtime's wheel holds::

    python tests/runtime/make_schema.py

It is made of the structs that read the manifest; a test tells when it is out of date. What the fields mean
stands there too, in the same wheel, and is not written twice.
"""

from pathlib import Path

import msgspec

import edgeae_runtime
from edgeae_runtime.bundle import FORMAT_VERSION, manifest

TARGET = Path(edgeae_runtime.__file__).with_name("manifest.schema.json")


def schema() -> bytes:
    """Return the file's content."""
    described = msgspec.json.schema(manifest.Manifest)
    for definition in described["$defs"].values():
        del definition["title"], definition["description"]
    heading = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"manifest.json of an edgeae bundle, format {FORMAT_VERSION}",
        "$comment": "edgeae_runtime/bundle/manifest.py tells what each field means",
    }
    return msgspec.json.encode({**heading, **described}) + b"\n"


if __name__ == "__main__":
    TARGET.write_bytes(schema())
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")
