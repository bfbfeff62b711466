"""Renew ``manifest.schema.json``, the JSON Schema of a bundle's manifest that the runtime's wheel holds::

    python tests/runtime/make_schema.py

It is made of the structs that read the manifest and their docstrings; a test tells when it is out of date.
"""

import ast
import inspect
from pathlib import Path

import msgspec

from edgeae_runtime import _manifest

TARGET = Path(_manifest.__file__).with_name("manifest.schema.json")


def schema() -> bytes:
    """Return the file's content."""
    described = msgspec.json.schema(_manifest.Manifest)
    for node in ast.parse(inspect.getsource(_manifest)).body:
        if isinstance(node, ast.ClassDef) and node.name in described["$defs"]:
            definition = described["$defs"][node.name]
            definition["description"] = inspect.cleandoc(definition["description"])
            for name, text in field_docstrings(node).items():
                definition["properties"][name]["description"] = text
    heading = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"manifest.json of an edgeae bundle, format {_manifest.FORMAT_VERSION}",
    }
    return msgspec.json.format(msgspec.json.encode({**heading, **described}), indent=1) + b"\n"


def field_docstrings(struct: ast.ClassDef) -> dict[str, str]:
    """Return the strings that stand below fields; msgspec does not see them."""
    found = {}
    for field, below in zip(struct.body, struct.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found


if __name__ == "__main__":
    TARGET.write_bytes(schema())
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")
