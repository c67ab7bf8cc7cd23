"""Debian packages that dom0 lacks, brought into a prepared dom0 as files: nothing in it can reach a mirror."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

from xenlab import debian_root, rootfs
from xenlab.store import Store, cache_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from xenlab.dom0 import Dom0
    from xenlab.machine import Release

_NEEDS_MIB = 700
# what nothing that is tried here needs
_LEFT_OUT = (
    "boot", "dev", "proc", "run", "sys", "tmp", "var/cache", "var/lib/apt", "var/lib/dpkg", "var/log",
    "usr/share/perl", "usr/lib/x86_64-linux-gnu/perl",
)  # fmt: skip
_SECONDS = 300


def install(dom0: Dom0, release: Release, packages: Sequence[str]) -> None:
    """Unpack in dom0 what `packages` and what they depend on have and dom0 has not; nothing is configured or begun."""
    store = Store(cache_folder() / "store")
    base = rootfs.recipe(release)
    more = debian_root.recipe(
        "packages",
        suite=release.suite,
        packages=packages,
        purpose=f"a root with {', '.join(packages)} ({release.suite}, downloads about 80 MB)",
        needs_mib=_NEEDS_MIB,
    )
    store.build_all([base, more])
    packed = _packed(store.path(more) / "root", store.path(base) / "root")
    dom0.succeed(["tar", "-C", "/", "-xf", "-"], stdin=packed, timeout=_SECONDS)


def _packed(root: Path, base: Path) -> bytes:
    """A tar of what is below `root` and not below `base`."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in _missing(root, base, ""):
            tar.add(root / path, path, recursive=False)
    return packed.getvalue()


def _missing(root: Path, base: Path, below: str) -> Iterator[str]:
    for entry in sorted(os.scandir(root / below), key=lambda entry: entry.name):
        path = f"{below}/{entry.name}".lstrip("/")
        if path in _LEFT_OUT:
            continue
        is_folder = entry.is_dir(follow_symlinks=False)
        if not os.path.lexists(base / path):
            yield path
        if is_folder and not (base / path).is_symlink():
            yield from _missing(root, base, path)
