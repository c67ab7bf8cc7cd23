"""Running a program out of dom0's root file system on this machine, without root and without chroot.

By the root's own loader and libraries: what it says is what it would say in dom0.
"""

from collections.abc import Sequence
from pathlib import Path

from .command import run

_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"


def loader(root: Path) -> Path:
    """The root's dynamic loader."""
    return root / _LOADER


def command(root: Path, program: str, *, name: str) -> list[str]:
    """The beginning of a command line that runs `program` of `root` under the name `name`."""
    return [*_with_libraries(root), "--argv0", name, str(root / program)]


def run_program(root: Path, program: str, arguments: Sequence[str], *, name: str) -> str:
    """Run `program` of `root` under the name `name`, and return what it printed."""
    return run([*command(root, program, name=name), *arguments]).stdout


def libraries(root: Path, program: str) -> list[Path]:
    """The shared libraries that `program` of `root` loads."""
    listed = run([*_with_libraries(root), "--list", str(root / program)]).stdout
    pairs = (line.strip().partition(" => ") for line in listed.splitlines())
    return [Path(found.split(" (")[0]) for _, arrow, found in pairs if arrow]


def _with_libraries(root: Path) -> list[str]:
    return [str(loader(root)), "--library-path", str(root / LIBRARIES)]
