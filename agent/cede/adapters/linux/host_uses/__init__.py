"""The adapter to what dom0 itself uses, and what guests use through dom0.

A loaded driver is no reason to keep a device, nor is an unmounted disk or an interface that is merely up: this asks the
kernel who uses a device, and finds the chain from the device to what needs it.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cede.adapters.linux.host_uses.backing_stores import BackingStores
from cede.adapters.linux.host_uses.block_devices import BlockDevices
from cede.adapters.linux.host_uses.bound_sockets import bound_interfaces, packet_sockets
from cede.adapters.linux.host_uses.connections import connections, storage_sessions
from cede.adapters.linux.host_uses.disks import Disks
from cede.adapters.linux.host_uses.interfaces import Interfaces
from cede.adapters.linux.host_uses.mounts import mounts_elsewhere, own_mounts
from cede.adapters.linux.host_uses.nodes import Nodes
from cede.adapters.linux.host_uses.processes import look_through
from cede.adapters.linux.host_uses.seat import Seat
from cede.adapters.linux.host_uses.served_devices import ServedDevices

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.adapters.linux.host_uses.device_tree import Use
    from cede.model.network import Network, Redirect
    from cede.model.pci import Address, HostUse
    from cede.model.served import Served

_MIRRED = "act_mirred"  # the kernel loads it with the first filter that hands on


class Reach(Protocol):
    """Who tells by which interface dom0 reaches others (adapters/linux/network_links.py)."""

    def ways(self, peers: Sequence[str]) -> dict[str, str]:
        """The interface by which each IP address is reached."""

    def ipsec_ends(self) -> tuple[tuple[str, str], ...]:
        """Both ends of each IPsec tunnel."""

    def l2tp_ends(self) -> tuple[tuple[str, str], ...]:
        """Both ends of each L2TP tunnel."""

    def redirects(self) -> tuple[Redirect, ...]:
        """What traffic control hands on from one interface to another."""


class HostUses:
    """Searches below `sys_root`, `proc_root`, `run_root` and `dev_root` (normally `/sys`, `/proc`, `/run`, `/dev`).

    What vanishes while it is read, or is none of the things that are searched for, is not a use.
    """

    def __init__(
        self,
        sys_root: Path,
        proc_root: Path,
        run_root: Path,
        dev_root: Path,
        reach: Reach,
        nodes: Nodes | None = None,
    ) -> None:
        self._roots = (sys_root, proc_root, run_root, dev_root)
        self._reach = reach
        self._nodes = nodes or Nodes()

    def find(self, network: Network, served: Served) -> dict[Address, list[HostUse]]:
        """Return every use, with its chain, of each device in use; `network` is dom0's own.

        `served` is what guests use through dom0. Raises PermanentError where it can't be told what is in use: mounts
        can't be read (`mounts-unknown`), connections can't (`connections-unknown`), disks can't be opened
        (`holders-unknown`), or it can't be asked how peers are reached.
        """
        look = _Look(self._roots, network, self._reach, self._nodes)
        uses: dict[Address, list[HostUse]] = {}
        for address, use in look.uses(served):
            _add(uses, address, use)
        for address, use in sorted(look.weaker_uses(), key=lambda found: -len(found[1].chain)):
            # a longer chain over the same link already says why
            if not any(_links(use)[-1] in _links(known) for known in uses.get(address, ())):
                _add(uses, address, use)
        for address, use in look.held(frozenset(uses)):
            _add(uses, address, use)
        return uses


class _Look:
    """One look at the host: each source is read once."""

    def __init__(
        self, roots: tuple[Path, Path, Path, Path], network: Network, reach: Reach, nodes: Nodes
    ) -> None:
        sys_root, proc, _, dev = roots
        self._proc, self._network = proc, network
        own = own_mounts(proc)
        remote = [mount.where for mount in own if mount.remote]
        self._packets = packet_sockets(proc)
        links = frozenset(socket.link for socket in self._packets)
        self._processes = look_through(proc, nodes, remote, links)
        mounts = (*own, *mounts_elsewhere(proc, self._processes.mount_namespaces, own))
        sessions = storage_sessions(sys_root)
        talks = connections(proc, self._processes.network_namespaces, self._processes.sshd_sockets)
        self._tunnels = dict(_tunnels(sys_root, reach))
        self._redirects = reach.redirects() if (sys_root / "module" / _MIRRED).exists() else ()
        peers = dict.fromkeys(
            (
                *chain.from_iterable(mount.servers for mount in mounts),
                *chain.from_iterable(session.addresses for session in sessions),
                *chain.from_iterable(interface.ends for interface in network.interfaces),
                *chain.from_iterable(self._tunnels),
                *(connection.peer for connection in talks),
            )
        )
        here = {address for interface in network.interfaces for address in interface.addresses}
        ways = reach.ways([peer for peer in peers if peer and peer not in here])
        self._sessions = sessions
        self._interfaces = Interfaces(sys_root, network, ways, talks)
        self._blocks = BlockDevices(sys_root, dev, nodes, self._interfaces, sessions)
        self._disks = Disks(roots, self._blocks, self._interfaces, nodes, mounts)
        self._stores = BackingStores(sys_root, self._blocks)
        self._served = ServedDevices(sys_root, dev, self._blocks, nodes)
        self._seat = Seat(sys_root, proc, dev, nodes)

    def uses(self, served: Served) -> Iterator[Use]:
        """Yield each use that says why by itself."""
        yield from self._disks.filesystems()
        yield from self._disks.swaps()
        yield from self._disks.of_guests(served.disks)
        yield from self._served.of_guests(served.devices)
        yield from self._served.of_pools(served.pools)
        yield from self._stores.loops()
        yield from self._stores.targets()
        yield from self._interfaces.routes()
        yield from self._interfaces.ssh_sessions()
        for session in self._sessions:
            yield from self._interfaces.to_peers(session.addresses, "connection", (session.what,))
        for ends, what in self._tunnels.items():
            yield from self._interfaces.to_peers(ends, "connection", (what,))
        yield from self._interfaces.of_guests(served.interfaces)
        yield from self._interfaces.redirected(self._redirects)
        yield from self._interfaces.moved()
        yield from self._interfaces.lent(self._proc, self._processes.network_namespaces)
        yield from self._interfaces.logging(self._proc)
        yield from self._seat.boot_display()
        yield from self._seat.consoles()
        yield from self._seat.watchdogs()
        yield from self._seat.keyboard()

    def weaker_uses(self) -> Iterator[Use]:
        """Yield each use that need not be told of a device where another one says the same and more."""
        yield from self._disks.members()
        yield from self._stores.open_devices(self._processes.open_devices)
        yield from self._interfaces.connections()
        yield from self._interfaces.of_ports()
        holders = self._processes.holders
        for name, what in bound_interfaces(
            self._proc, self._interfaces.numbered, self._packets, holders, self._network
        ):
            yield from self._interfaces.down(name, "open", (what,))

    def held(self, kept: frozenset[Address]) -> Iterator[Use]:
        """Yield the disks that the kernel holds for a reason that nothing tells, of devices that are not `kept`."""
        yield from self._disks.held(kept)


def _tunnels(sys_root: Path, reach: Reach) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield both ends of each tunnel that needs no interface, and what it is; asks only for what the kernel has."""
    for kind, module, ends in (
        ("IPsec", "xfrm_user", reach.ipsec_ends),
        ("L2TP", "l2tp_netlink", reach.l2tp_ends),
    ):
        if (sys_root / "module" / module).exists():
            for local, other in ends():
                yield (local, other), f"the {kind} tunnel to {other}"


def _add(uses: dict[Address, list[HostUse]], address: Address, use: HostUse) -> None:
    known = uses.setdefault(address, [])
    if use not in known:
        known.append(use)


def _links(use: HostUse) -> list[tuple[str, str]]:
    return list(zip(use.chain, use.chain[1:], strict=False))
