"""A snapshot on top of the pristine one, for a series of runs that would each do the same in dom0 first.

It is laid out as the pristine one, whose disks lie below its own, and is as safe from what runs on it.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .dom0 import Dom0
from .emulator import Emulator
from .machine import Release
from .pristine import STATE_FILES, keep_only_the_snapshot
from .progress import step
from .qemu_programs import QemuPrograms
from .restore import restore
from .store import Recipe, digest, digest_of_modules

_NEEDS_MIB = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What is done in dom0 once, and all that it depends on beside dom0 itself."""

    name: str
    inputs: Sequence[str | bytes]
    do: Callable[[Dom0], None]


def recipe(
    release: Release,
    preparation: Preparation,
    *,
    programs: QemuPrograms,
    disk: Path,
    pristine: Recipe,
    pristine_folder: Path,
) -> Recipe:
    """How the prepared snapshot is made from the pristine one in `pristine_folder`."""
    return Recipe(
        kind=preparation.name,
        release=release.suite,
        digest=digest(
            [pristine.digest, digest_of_modules("prepared", "push"), *preparation.inputs]
        ),
        needs_mib=_NEEDS_MIB,
        build=lambda folder: _build(preparation, programs, disk, pristine_folder, folder),
    )


def _build(
    preparation: Preparation,
    programs: QemuPrograms,
    disk: Path,
    pristine_folder: Path,
    folder: Path,
) -> None:
    emulator = Emulator(folder=folder)
    with step(f"preparing dom0 for {preparation.name}"), ExitStack() as stack:
        stack.callback(emulator.stop)
        port = restore(
            emulator,
            programs=programs,
            disk=disk,
            snapshot=pristine_folder,
            dies_with_lab=True,
        )
        preparation.do(Dom0(keys=disk, port=port))
        # until now they are links to what was restored
        for name in STATE_FILES:
            (folder / name).unlink()
        emulator.save()
    keep_only_the_snapshot(folder)
