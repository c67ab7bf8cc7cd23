"""A host in a file: the inventory saved, and read again where there is no such host."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cede.errors import UsageError
from cede.model import serialization
from cede.model.inventory import Inventory

if TYPE_CHECKING:
    from pathlib import Path

_VERSION: Literal[1] = 1
_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedHost:
    """A host in a file, as `cede devices --save` writes it and `cede plan --host` reads it."""

    version: Literal[1]
    inventory: Inventory


def save(inventory: Inventory, path: Path) -> None:
    """Write the inventory as JSON, readable by its owner only; schemas/inventory.schema.json describes it.

    Raises UsageError if the file can't be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            saved = SavedHost(version=_VERSION, inventory=inventory)
            file.write(serialization.dumps(saved) + "\n")
    except OSError as error:
        raise UsageError(
            f"{path} can't be written: {error.strerror}", name="file-unwritable"
        ) from error


def read(path: Path) -> Inventory:
    """The inventory in a file that `save` wrote; raises UsageError, with the place in it, if it is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}", name="file-unreadable"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not JSON: {error}", name="unreadable-snapshot", remedy=_REMEDY
        ) from error
    if not isinstance(data, dict) or data.get("version") != _VERSION:
        raise UsageError(
            f"{path} is not a saved host of version {_VERSION}",
            name="unreadable-snapshot",
            remedy=_REMEDY,
        )
    try:
        inventory: Inventory = serialization.build(Inventory, data.get("inventory"), "inventory")
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}", name="unreadable-snapshot", remedy=_REMEDY) from error
    return inventory


_REMEDY = "make one with `cede devices --save FILE`"
