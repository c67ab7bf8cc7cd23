"""Load JSON Schemas, installed or in a checkout."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

_CHECKOUT = Path(__file__).parents[3] / "schemas"


def load(name: str) -> dict[str, Any]:
    """Load the schema in the file `name`, such as `policy.schema.json`.

    Raises FileNotFoundError if neither the installed package nor the checkout has the file.
    """
    packaged = files("cede") / "schemas" / name
    source = packaged if packaged.is_file() else _CHECKOUT / name
    schema: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))
    return schema
