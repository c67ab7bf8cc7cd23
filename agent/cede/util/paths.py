"""Where things are on a host: libvirt by its URI, and every path below one root, which a test sets elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cede.util.well_known import AGENT_SOCKET, POLICY, POLICY_FOLDER


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """The paths that cede reads and writes, below `root` (normally `/`)."""

    root: Path = Path("/")

    @property
    def sys(self) -> Path:
        """The kernel's devices and drivers."""
        return self.root / "sys"

    @property
    def proc(self) -> Path:
        """The kernel's processes, mounts and settings."""
        return self.root / "proc"

    @property
    def dev(self) -> Path:
        """The device nodes."""
        return self.root / "dev"

    @property
    def run(self) -> Path:
        """What lasts until the host is shut down."""
        return self.root / "run"

    @property
    def boot_id(self) -> Path:
        """The file with this boot's random id (random(4))."""
        return self.proc / "sys/kernel/random/boot_id"

    @property
    def journal(self) -> Path:
        """cede's own state."""
        return self.root / "var/lib/cede/journal.db"

    @property
    def refused_logins(self) -> Path:
        """Which guests have refused which password, so that none is tried twice."""
        return self.root / "var/lib/cede/refused-logins"

    @property
    def known_shapes(self) -> Path:
        """Which texts of policies had a right shape, so that none is judged twice."""
        return self.root / "var/lib/cede/known-shapes"

    @property
    def lock(self) -> Path:
        """What the one cede holds that may change something."""
        return self.run / "cede.lock"

    @property
    def run_lock(self) -> Path:
        """What the one `cede run` holds."""
        return self.run / "cede-run.lock"

    @property
    def agent_socket(self) -> Path:
        """Where the agent is asked for everything, by root and its group."""
        return self.root / AGENT_SOCKET

    @property
    def read_only_socket(self) -> Path:
        """Where the agent shows anybody what anybody may see."""
        return self.run / "cede/cede-ro.sock"

    @property
    def pci_ids(self) -> tuple[Path, ...]:
        """Where the distributions have the list of what PCI ids are called."""
        return (self.root / "usr/share/misc/pci.ids", self.root / "usr/share/hwdata/pci.ids")

    @property
    def policy(self) -> Path:
        """The host's policy."""
        return self.root / POLICY

    @property
    def policy_folder(self) -> Path:
        """The folder of further files of the host's policy."""
        return self.root / POLICY_FOLDER
