"""The adapter to what dom0 itself uses, and what guests use through dom0.

A loaded driver is no reason to keep a device, nor is an unmounted disk or an interface that is merely up: this finds
actual use, and the chain from the device to what needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.disks import Disks
from cede.adapters.linux.host_uses.interfaces import Interfaces
from cede.adapters.linux.host_uses.seat import Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cede.model.pci import Address, HostUse

_NONE: Mapping[str, Sequence[str]] = {}


class HostUses:
    """Searches below `sys_root`, `proc_root`, `run_root` and `dev_root` (normally `/sys`, `/proc`, `/run`, `/dev`).

    `addresses()` returns the interface of each of dom0's IP addresses; it is called only if there is an ssh session,
    and its error is raised, because "no session" would be wrong. Nothing else raises: what vanishes while it is read,
    or can't be parsed, is not a use.
    """

    def __init__(
        self,
        sys_root: Path,
        proc_root: Path,
        run_root: Path = Path("/run"),
        dev_root: Path = Path("/dev"),
        addresses: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._disks = Disks(sys_root, proc_root, run_root, dev_root)
        self._interfaces = Interfaces(sys_root, proc_root, addresses)
        self._seat = Seat(sys_root)

    def find(
        self,
        disks: Mapping[str, Sequence[str]] = _NONE,
        interfaces: Mapping[str, Sequence[str]] = _NONE,
    ) -> dict[Address, list[HostUse]]:
        """Return every use, with its chain, of each device in use.

        `disks` are the block devices (`/dev/...`), `interfaces` the host's interfaces that each domain, by name, uses.
        Raises what `addresses` raises.
        """
        uses: dict[Address, list[HostUse]] = {}
        for address, use in (
            *self._disks.filesystems(),
            *self._disks.swaps(),
            *self._disks.of_guests(disks),
            *self._interfaces.default_routes(),
            *self._interfaces.ssh_sessions(),
            *self._interfaces.of_guests(interfaces),
            *self._seat.boot_display(),
            *self._seat.keyboard(),
        ):
            _add(uses, address, use)
        for address, use in sorted(self._disks.members(), key=lambda found: -len(found[1].chain)):
            # a longer chain over the same link already says why
            if not any(_links(use)[-1] in _links(known) for known in uses.get(address, ())):
                _add(uses, address, use)
        return uses


def _add(uses: dict[Address, list[HostUse]], address: Address, use: HostUse) -> None:
    known = uses.setdefault(address, [])
    if use not in known:
        known.append(use)


def _links(use: HostUse) -> list[tuple[str, str]]:
    return list(zip(use.chain, use.chain[1:], strict=False))
