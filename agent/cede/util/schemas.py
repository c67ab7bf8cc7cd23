"""Load JSON Schemas, installed or in a checkout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_PACKAGED, _CHECKOUT = (Path(__file__).parents[above] / "schemas" for above in (1, 3))


def load(name: str) -> dict[str, Any]:
    """Load the schema in the file `name`, such as `policy.schema.json`; raises as `content`."""
    schema: dict[str, Any] = json.loads(content(name))
    return schema


def content(name: str) -> bytes:
    """Return what is in the file `name`.

    Raises FileNotFoundError if neither the installed package nor the checkout has the file.
    """
    folder = _PACKAGED if _PACKAGED.is_dir() else _CHECKOUT
    return (folder / name).read_bytes()
