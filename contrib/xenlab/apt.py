"""Where this machine gets its Debian packages from: dom0 is installed from the same mirror.

No mirror is written into the lab. The machine's own apt configuration says which one is near,
allowed and signed, and through which proxy it is reached.
"""

import json

from .command import find_program, run
from .errors import LabError

# apt's settings that a nested apt needs as well to reach the same mirror.
_CARRIED_OVER = ("proxy", "verify-peer", "verify-host", "cainfo", "check-valid-until", "check-date")
_TARGETS = "$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"


def find_mirror() -> str:
    """The URI of the Debian mirror that this machine's own release comes from."""
    if find_program("apt-get") is None:
        raise LabError(
            "this machine has no apt, so there is no Debian mirror to install dom0 from",
            remedy="build the lab on Debian 12 or 13",
        )
    listed = run(["apt-get", "indextargets", "--format", _TARGETS, "Created-By: Packages"]).stdout
    mirror = choose_mirror(listed)
    if mirror is None:
        raise LabError(
            "apt on this machine knows no Debian mirror",
            remedy="add a line `deb URI SUITE main` for Debian to /etc/apt/sources.list",
        )
    return mirror


def choose_mirror(targets: str) -> str | None:
    """Choose the main archive out of `apt-get indextargets` lines (creator|uri|suite|component).

    Third parties, security and update suites have no whole Debian: the main archive is the one
    whose path ends in `debian`, with a component `main` and a suite name without a dash.
    """
    for line in targets.splitlines():
        _, uri, suite, component = line.split("|")
        path = uri.rstrip("/").rsplit("/", 1)[-1]
        if component == "main" and "-" not in suite and path in {"debian", "debian.list"}:
            return uri
    return None


def carried_over_options() -> list[str]:
    """Settings of this machine's apt, as apt.conf lines, without which its mirror is unreachable."""
    dump = run(["apt-config", "dump", "--format", "%F %v%n"]).stdout
    options = []
    for line in dump.splitlines():
        name, _, value = line.partition(" ")
        if name.startswith("Acquire::") and value and name.lower().endswith(_CARRIED_OVER):
            options.append(f"{name} {json.dumps(value)};")
    return options
