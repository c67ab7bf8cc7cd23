"""dom0's root file system as packages alone: a minimal Debian with Xen and libvirt.

Kept apart from the disk that is made of it, so that a change of dom0's configuration or of a guest
does not download anything.
"""

from . import debian_root
from .machine import Release
from .store import Recipe

_NEEDS_MIB = 1400


def recipe(release: Release) -> Recipe:
    """How the root file system of `release` is built: a folder `root`."""
    return debian_root.recipe(
        "rootfs",
        suite=release.suite,
        packages=release.packages,
        purpose=f"dom0's root file system ({release.suite}, downloads about 200 MB)",
        needs_mib=_NEEDS_MIB,
    )
