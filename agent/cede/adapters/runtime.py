"""The runtime: what a command is handed of the process and the host it runs on, and opens its adapters with.

The composition root (`cede.adapters.composition`) makes that of this host, a test makes that of a simulated one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from cede.adapters.ports import Adapters, Source
from cede.state.journal import Journal
from cede.state.key_files import KnownShapes
from cede.util.clock import Clock, ThreadTimeouts, Timeouts
from cede.util.kernel_files import text
from cede.util.paths import Paths
from cede.util.well_known import DEFAULT_URI


class LibvirtAccess(Enum):
    """Whether opening the adapters fails where libvirt doesn't answer.

    OPTIONAL: the first question to libvirt does. OFFLINE: neither libvirt nor xenstore need run, nor are started by
    being asked.
    """

    REQUIRED = "required"
    OPTIONAL = "optional"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """`user` tells on whose behalf it runs, `uri` where libvirt is; `recorded` that the host is one in a folder.

    `open_adapters` opens the adapters and closes them afterwards, `event_sources` makes what wakes a daemon that
    follows the policy's `paths`.
    """

    open_adapters: Callable[[Runtime, LibvirtAccess], AbstractContextManager[Adapters]]
    event_sources: Callable[[Runtime, Sequence[Path]], tuple[Source, ...]]
    user: Callable[[], str]
    is_root: bool
    recorded: bool = False
    uri: str = DEFAULT_URI
    paths: Paths = field(default_factory=Paths)
    clock: Clock = field(default_factory=Clock)
    timeouts: Timeouts = field(default_factory=ThreadTimeouts)

    def adapters(
        self, libvirt: LibvirtAccess = LibvirtAccess.REQUIRED
    ) -> AbstractContextManager[Adapters]:
        """Open the adapters for the time of one command; raises UnreachableError as `libvirt` says."""
        return self.open_adapters(self, libvirt)

    @property
    def shapes(self) -> KnownShapes | set[tuple[bytes, bytes]]:
        """The policy's texts whose shape need not be judged again; a recorded host's word on that isn't taken."""
        return set() if self.recorded else KnownShapes(self.paths.known_shapes)

    def seed(self) -> str:
        """Return what is this host's own at each boot, made of its machine-id, which itself is to stay on the host.

        Empty if it has none. Source: machine-id(5).
        """
        import hashlib  # as in model.virtual_functions

        machine = text(self.paths.root / "etc/machine-id")
        return hashlib.sha256(f"cede {machine}".encode()).hexdigest() if machine else ""

    def journal(self) -> Journal:
        """Return the journal, which needs no libvirt to be read; the caller closes it."""
        boot_id = self.paths.boot_id
        boot = boot_id.read_text().strip() if boot_id.exists() else ""
        return Journal(self.paths.journal, boot=boot, now=self.clock.now)
