"""The programs and the memory of this machine that the lab needs, and how it gets the programs that are missing.

Asked for lazily: a lab that is already built needs only ssh and setpriv, and none of this costs time
when everything is there.
"""

from collections.abc import Sequence
from pathlib import Path

from .command import as_root, find_program, run
from .errors import LabError
from .progress import say, step

# Program -> the Debian package that has it.
TO_RUN = {
    "setpriv": "util-linux",
    "ssh": "openssh-client",
}
TO_BUILD = {
    **TO_RUN,
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}


# What QEMU has touched of the machine's memory when all guests run and one with 4,200 MiB is started.
_NEEDS_MEMORY_MIB = 3072
_MEMINFO = Path("/proc/meminfo")


def require_memory(meminfo: Path = _MEMINFO) -> None:
    """Raise LabError where this machine has too little memory left for the lab to run in."""
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    free_mib = int(fields["MemAvailable"].split()[0]) // 1024
    if free_mib < _NEEDS_MEMORY_MIB:
        raise LabError(
            f"this machine has {free_mib} MiB of memory free, and the lab needs {_NEEDS_MEMORY_MIB} MiB",
            remedy="end other programs, or another lab: contrib/lab down",
        )


def missing(programs: dict[str, str]) -> list[str]:
    """The programs out of `programs` that are not installed."""
    return [name for name in programs if find_program(name) is None]


def require(programs: dict[str, str]) -> None:
    """Make sure that all `programs` are there, installing their packages if they are not."""
    absent = missing(programs)
    if not absent:
        return
    packages = sorted({programs[name] for name in absent})
    if find_program("apt-get") is None:
        raise LabError(
            f"this machine lacks {', '.join(absent)}, and has no apt-get to install them with",
            remedy="install them yourself; Debian calls the packages " + ", ".join(packages),
        )
    say(f"this machine lacks {', '.join(absent)}")
    with step(f"installing {', '.join(packages)}"):
        _install(packages)
    still = missing(programs)
    if still:
        raise LabError(f"{', '.join(still)} still missing after installing {', '.join(packages)}")


def _install(packages: Sequence[str]) -> None:
    why = f"install {', '.join(packages)}"
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    # another lab may be installing at this moment
    apt += ["-o", "DPkg::Lock::Timeout=300"]
    if not _installable(packages):
        as_root([*apt, "update"], why="fetch the package index")
    install = [*apt, "install", "--no-install-recommends", *packages]
    try:
        as_root(install, why=why)
    except LabError as error:
        # An index older than the mirror names files that are gone: a fresh one settles it.
        if "404" not in error.details:
            raise
        as_root([*apt, "update"], why="fetch the package index")
        as_root(install, why=why)


def _installable(packages: Sequence[str]) -> bool:
    """Whether apt's index is there and knows all of `packages`; a fresh machine has none."""
    simulated = ["apt-get", "-q", "--simulate", "install", "--no-install-recommends", *packages]
    return run(simulated, check=False).returncode == 0
