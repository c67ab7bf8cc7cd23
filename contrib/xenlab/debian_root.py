"""A Debian release as a folder `root`: its minimal packages and those that are asked for.

dom0's disk is made of such a folder, and programs of another release than this machine's run out of one.
"""

import signal
from collections.abc import Sequence
from pathlib import Path

from . import apt
from .command import as_root
from .progress import step
from .store import Recipe, digest, digest_of_modules

# What no test looks at is left out: it would only make the folder bigger.
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


def recipe(
    kind: str, *, suite: str, packages: Sequence[str], purpose: str, needs_mib: int
) -> Recipe:
    """How a folder `root` with the release `suite` and `packages` is built.

    `purpose` names it to the user, after "building" and after "root is needed to build".
    """
    return Recipe(
        kind=kind,
        release=suite,
        digest=digest([suite, *packages, digest_of_modules("debian_root")]),
        needs_mib=needs_mib,
        build=lambda folder: _build(folder, suite=suite, packages=packages, purpose=purpose),
    )


def _build(folder: Path, *, suite: str, packages: Sequence[str], purpose: str) -> None:
    mirror = apt.find_mirror()
    options = [f"--aptopt={option}" for option in apt.carried_over_options()]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    argv = [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        '--aptopt=Acquire::Languages "none";',
        *options,
        f"--include={','.join(packages)}",
        suite,
        str(folder / "root"),
        f"deb {mirror} {suite} main",
    ]
    with step(f"building {purpose}"):
        as_root(
            [*_IN_ITS_OWN_NAMESPACES, *argv],
            why=f"build {purpose}",
            end_by=signal.SIGKILL,
        )
