"""Kernel modules for an initramfs: which files, in which order, unpacked.

The initramfs has only busybox's insmod, which knows no dependencies and need not know the
compression that the distribution uses.
"""

import gzip
import lzma
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from .errors import LabError
from .root_programs import run_program


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A kernel module, ready to be loaded."""

    name: str
    content: bytes


def kernel_version(root: Path) -> str:
    """The version of the one kernel that is installed below `root`."""
    versions = sorted(folder.name for folder in (root / "usr/lib/modules").iterdir())
    if len(versions) != 1:
        raise LabError(f"dom0's root has {len(versions)} kernels: {', '.join(versions)}")
    return versions[0]


def resolve(root: Path, wanted: Iterable[str]) -> list[Module]:
    """The modules `expected` and what they depend on, in the order to load them.

    Modules that are built into the kernel are left out; one that does not exist is a LabError.
    """
    folder = root / "usr/lib/modules" / kernel_version(root)
    needs = _dependencies((folder / "modules.dep").read_text())
    by_name = {_name(path): path for path in needs}
    built_in = {_name(path) for path in (folder / "modules.builtin").read_text().splitlines()}
    ordered: dict[str, None] = {}

    def visit(path: str) -> None:
        for needed in needs[path]:
            visit(needed)
        ordered.setdefault(path)

    for name in (name.replace("-", "_") for name in wanted):
        if name in built_in:
            continue
        if name not in by_name:
            raise LabError(f"the kernel in dom0's root has no module {name}")
        visit(by_name[name])
    return [Module(name=_name(path), content=_unpack(folder / path)) for path in ordered]


def index(root: Path, modules: Iterable[Module]) -> dict[str, bytes]:
    """The index files of a kernel that has `modules` only, for lspci and modprobe to read."""
    version = kernel_version(root)
    with TemporaryDirectory(prefix="cede-lab-") as base:
        folder = Path(base) / "lib/modules" / version
        folder.mkdir(parents=True)
        for module in modules:
            (folder / f"{module.name}.ko").write_bytes(module.content)
        for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
            shutil.copy(root / "usr/lib/modules" / version / name, folder)
        run_program(root, "usr/bin/kmod", ["-b", base, version], name="depmod")
        return {file.name: file.read_bytes() for file in sorted(folder.glob("modules.*"))}


def _dependencies(modules_dep: str) -> dict[str, list[str]]:
    """Read modules.dep(5): each module's file, and the files it needs, nearest first."""
    pairs = (line.partition(":") for line in modules_dep.splitlines())
    return {path: list(reversed(needed.split())) for path, _, needed in pairs}


def _name(path: str) -> str:
    return Path(path).name.split(".ko")[0].replace("-", "_")


def _unpack(path: Path) -> bytes:
    content = path.read_bytes()
    match path.suffix:
        case ".xz":
            return lzma.decompress(content)
        case ".gz":
            return gzip.decompress(content)
        case ".ko":
            return content
    raise LabError(f"{path.name} is compressed in a way that the lab cannot unpack")
