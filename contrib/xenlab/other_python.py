"""The Python of the other Debian release: 3.13 on a machine with Debian 12, 3.11 on one with Debian 13.

    python3 -m xenlab.other_python          build its root if there is none, and print the root's folder
    python3 -m xenlab.other_python VENV     make a virtual environment in the empty folder VENV

It runs by its root's own loader and libraries, without chroot and without root's rights. Every other program is this
machine's.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from . import debian_root, prerequisites
from .command import run
from .errors import LabError
from .machine import RELEASES, Release
from .root_programs import LIBRARIES, loader
from .store import Recipe, Store, cache_folder

# libvirt's binding comes from Debian, as on a host: it fits the libvirt of its release.
_PACKAGES = ("python3", "python3-libvirt", "python3-pip")
_NEEDS_MIB = 300
_INTERRUPTED = 130
_TO_BUILD = {"mmdebstrap": "mmdebstrap", "setpriv": "util-linux", "unshare": "util-linux"}


def other_release(python: str) -> Release:
    """The release whose Python is not `python`, the version of this machine's."""
    if python not in {release.python for release in RELEASES.values()}:
        raise LabError(
            f"this machine's python3 is {python}, that of neither Debian 12 nor 13",
            remedy="run the tests on Debian 12 or 13",
        )
    (other,) = (release for release in RELEASES.values() if release.python != python)
    return other


def recipe(release: Release) -> Recipe:
    """How the root with the Python of `release` is built."""
    return debian_root.recipe(
        "python",
        suite=release.suite,
        packages=_PACKAGES,
        purpose=f"a root with Python {release.python} ({release.suite}, downloads about 50 MB)",
        needs_mib=_NEEDS_MIB,
    )


def find_or_build_root(release: Release) -> Path:
    """The root file system with the Python of `release`."""
    store = Store(cache_folder() / "store")
    wanted = recipe(release)
    if not store.has(wanted):
        prerequisites.require(_TO_BUILD)
    store.build_all([wanted])
    return store.path(wanted) / "root"


def make_venv(folder: Path, root: Path, python: str) -> None:
    """Make a virtual environment in `folder`, with what Debian has for `python` of `root`, pip included."""
    program = root / f"usr/bin/python{python}"
    # Without the cache of this machine's loader: its libraries are of another release.
    start = [str(loader(root)), "--inhibit-cache", "--library-path", str(root / LIBRARIES)]
    venv = ["-m", "venv", "--system-site-packages", "--without-pip", str(folder)]
    run([*start, str(program), *venv], purpose="make a virtual environment")
    for link in (folder / "bin").glob("python*"):
        link.unlink()
    # By the name that it is started by, Python finds the environment.
    script = f'#!/bin/sh\nexec {shlex.join(start)} --argv0 "$0" {shlex.quote(str(program))} "$@"\n'
    starter = folder / "bin/python"
    starter.write_text(script)
    starter.chmod(0o755)


def main(arguments: Sequence[str]) -> int:
    """Print the root's folder, or make a virtual environment; returns the exit status."""
    os.umask(0o022)  # the user reads what root installs
    try:
        release = other_release(f"{sys.version_info.major}.{sys.version_info.minor}")
        root = find_or_build_root(release)
        if arguments:
            make_venv(Path(arguments[0]), root, release.python)
        else:
            print(root)
    except LabError as error:
        print(error.reported(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
