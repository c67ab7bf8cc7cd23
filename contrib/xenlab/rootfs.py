"""dom0's root file system as packages alone: a minimal Debian with Xen and libvirt.

Kept apart from the disk that is made of it, so that a change of dom0's configuration or of a guest
does not download anything.
"""

import signal
from pathlib import Path

from . import apt
from .command import as_root
from .machine import Release
from .progress import step
from .store import Recipe, digest, digest_of_modules

_NEEDS_MIB = 1400

# What no test looks at is left out: it would only make the disk bigger.
_LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
)

# mmdebstrap mounts /dev, /proc and /sys of this machine into the folder that it fills. In namespaces
# of their own these mounts and all its processes are gone the moment it ends, however it ends:
# nothing that removes the folder later can reach through them.
_IN_ITS_OWN_NAMESPACES = (
    "unshare",
    "--mount",
    "--propagation=private",
    "--pid",
    "--kill-child=KILL",
    "--mount-proc",
    "--",
)


def recipe(release: Release) -> Recipe:
    """How the root file system of `release` is built: a folder `root`."""
    return Recipe(
        kind="rootfs",
        release=release.suite,
        digest=digest([release.suite, *release.packages, digest_of_modules("rootfs")]),
        needs_mib=_NEEDS_MIB,
        build=lambda folder: _build(release, folder),
    )


def _build(release: Release, folder: Path) -> None:
    mirror = apt.find_mirror()
    options = [f"--aptopt={option}" for option in apt.carried_over_options()]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    argv = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        '--aptopt=Acquire::Languages "none";',
        *options,
        f"--include={','.join(release.packages)}",
        release.suite,
        str(folder / "root"),
        f"deb {mirror} {release.suite} main",
    ]
    with step(f"building dom0's root file system ({release.suite}, downloads about 200 MB)"):
        as_root(
            [*_IN_ITS_OWN_NAMESPACES, *argv],
            why="install dom0's packages into a folder",
            end_by=signal.SIGKILL,
        )
