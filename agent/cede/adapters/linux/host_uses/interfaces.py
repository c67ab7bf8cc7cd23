"""Uses of network cards: routes, connections, guests' networks, and cards in other network namespaces.

Sources: Documentation/ABI/testing/sysfs-class-net (lower_*, master), the kernel's net/core/dev.c (upper and lower
devices), net/openvswitch/vport-netdev.c (ports have the datapath `ovs-system` as master), drivers/net/netconsole.c and
drivers/base/core.c (a function's `net` folder stays, and is empty, when its interfaces are moved elsewhere).
"""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.device_tree import children, controllers, real, used_for
from cede.model.network import Interface, Network, Redirect
from cede.util.kernel_files import beginning, link_name, listing, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cede.adapters.linux.host_uses.connections import Connection
    from cede.adapters.linux.host_uses.device_tree import Use

_OVS_KIND, _OVS_DATAPATH = "openvswitch", "ovs-system"
_TUNNELS = frozenset({
    "wireguard", "tun", "vxlan", "geneve", "gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan", "ipip",
    "sit", "ip6tnl", "vti", "vti6", "xfrm", "gtp", "bareudp",
})  # fmt: skip
_SHAPING = "ifb"
_GUEST_PORT = re.compile(r"^(vif|vnet|tap)\d")
_GUEST_KINDS = frozenset({"tun", "veth"})
_NETCONSOLE = re.compile(r"^net(con|console)_?(ext)?\d+ ", re.MULTILINE)
_MADE_BY_KERNEL = frozenset({"kernel", "ra"})


class Interfaces:
    """Finds uses of interfaces below `sys_root`, for one look at the host, in which each interface is walked once.

    `network` is what the kernel tells of interfaces and routes, `ways` the interface by which it reaches each peer.
    """

    def __init__(
        self,
        sys_root: Path,
        network: Network,
        ways: Mapping[str, str],
        connections: Sequence[Connection],
    ) -> None:
        self._sys = sys_root
        self._network = network
        self._ways = ways
        self._connections = connections
        self._known = {interface.name: interface for interface in network.interfaces}
        self._walked: dict[str, list[Use]] = {}

    @cached_property
    def _owners(self) -> dict[str, list[str]]:
        """The interfaces with each of dom0's IP addresses; several may have one link-local address."""
        owners: dict[str, list[str]] = {}
        for interface in self._network.interfaces:
            for address in interface.addresses:
                owners.setdefault(address, []).append(interface.name)
        return owners

    def numbered(self, number: str) -> str:
        """Return dom0's interface with the kernel's number; empty if there is none."""
        return self._numbers.get(number, "")

    @cached_property
    def _numbers(self) -> dict[str, str]:
        folder = f"{self._sys}/class/net"
        return {text(f"{folder}/{name}/ifindex"): name for name in listing(folder)}

    def routes(self) -> Iterator[Use]:
        """Yield the devices of all routes but those to an interface's own subnet, which nobody needs to use."""
        for route in self._network.routes:
            if route.default:
                yield from self.down(route.interface, "default-route", ("the default route",))
            elif route.via or not self._connected(
                route.interface, route.destination, route.protocol
            ):
                chain = (f"the route to {route.destination}",)
                yield from self.down(route.interface, "route", chain)

    def _connected(self, name: str, destination: str, protocol: str) -> bool:
        interface = self._known.get(name, Interface(name=name))
        if protocol in _MADE_BY_KERNEL or destination in interface.subnets:
            return True
        return destination.startswith(("fe80::", "ff00::", "169.254.0.0/"))

    def ssh_sessions(self) -> Iterator[Use]:
        """Yield the devices of connections to dom0's sshd."""
        for connection in self._connections:
            if connection.ssh:
                chain = (f"an ssh session to {connection.local}",)
                yield from self._between([connection.local, connection.peer], "ssh", chain)

    def connections(self) -> Iterator[Use]:
        """Yield the devices of all other connections; one of each interface."""
        named: set[str] = set()
        for connection in self._connections:
            ends = [connection.local, connection.peer]
            if connection.ssh or connection.peer in self._owners:
                continue
            chain = (str(connection),)
            for name in self._at(ends):
                if name not in named:
                    named.add(name)
                    yield from self.down(name, "connection", chain)

    def to_peers(self, peers: Iterable[str], guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
        """Yield the devices by which the peers are reached: by the kernel's way, and from where they are talked to."""
        ends = list(peers)
        ends += [c.local for c in self._connections if c.peer in ends]
        yield from self._between(ends, guard, chain)

    def _between(self, ends: Sequence[str], guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
        for name in self._at(ends):
            yield from self.down(name, guard, chain)

    def _at(self, ends: Sequence[str]) -> list[str]:
        """The interfaces of the addresses: who has it, else by which it is reached."""
        names = dict.fromkeys(
            name for end in ends for name in self._owners.get(end) or [self._ways.get(end, "")]
        )
        return [name for name in names if name]

    def of_guests(self, interfaces: Mapping[str, Sequence[str]]) -> Iterator[Use]:
        """Yield the devices of the bridges and cards that domains' NICs use."""
        for domain, names in interfaces.items():
            for name in names:
                yield from self.down(name, "guest-network", (f"the network of {domain}",))

    def of_ports(self) -> Iterator[Use]:
        """Yield the devices of bridges with an interface of any guest or container, whoever made that."""
        shown: set[str] = set()
        for name in listing(f"{self._sys}/class/net"):
            interface = self._known.get(name)
            leads_away = interface is not None and interface.kind in _GUEST_KINDS
            master = self._master(name) if leads_away or _GUEST_PORT.match(name) else ""
            if master and master not in shown:
                shown.add(master)
                chain = (f"{name} of a guest or container",)
                yield from self.down(master, "guest-network", chain)

    def redirected(self, redirects: Iterable[Redirect]) -> Iterator[Use]:
        """Yield the devices between which traffic control hands traffic on: those that it goes to and comes from.

        Who is only mirrored needs nothing of that, and what goes to an `ifb` comes back to where it was.
        """
        for redirect in redirects:
            chain = (f"what tc hands on from {redirect.source} to {redirect.target}",)
            yield from self.down(redirect.target, "route", chain)
            target = self._known.get(redirect.target, Interface(name=redirect.target))
            if not redirect.copies and target.kind != _SHAPING:
                yield from self.down(redirect.source, "route", chain)

    def moved(self) -> Iterator[Use]:
        """Yield the functions whose interfaces are in another network namespace."""
        for name in listing(self._sys / "bus/pci/devices"):
            device = f"{self._sys}/bus/pci/devices/{name}"
            entries = listing(device)
            folders = ["net"] if "net" in entries else []
            folders += [f"{entry}/net" for entry in beginning(entries, "virtio")]
            for below in folders:
                if not listing(f"{device}/{below}"):
                    yield from self._moved(Path(device, below))

    def lent(self, proc: Path, namespaces: Mapping[str, Sequence[str]]) -> Iterator[Use]:
        """Yield the devices on which an interface in another network namespace lies, as macvlans of containers do.

        A container's own sysfs tells by number what its interfaces lie on (sysfs-class-net, iflink).
        """
        for process, *_ in namespaces.values():
            seen = f"{proc}/{process}/root/sys/class/net"
            own = _named(text(f"{proc}/{process}/net/dev"))
            for name in listing(seen):
                below = text(f"{seen}/{name}/iflink")
                if name in own and below != text(f"{seen}/{name}/ifindex") and below:
                    chain = (f"{name} of {text(f'{proc}/{process}/comm') or process}",)
                    yield from self.down(self.numbered(below), "namespace", chain)

    def _moved(self, path: Path) -> Iterator[Use]:
        device = real(path)
        if device is not None:
            chain = ("an interface in another network namespace",)
            yield from controllers(device, "namespace", chain)

    def logging(self, proc: Path) -> Iterator[Use]:
        """Yield the devices over which the kernel sends its messages (netconsole).

        Of a target that was given to the module as its parameter, or on the kernel's command line, nothing tells the
        interface: it may be any that is up.
        """
        chain = ("the kernel's netconsole",)
        targets = children(self._sys, "kernel/config/netconsole/*")
        names = [text(target / "dev_name") for target in targets if text(target / "enabled") == "1"]
        if not names and _NETCONSOLE.search(text(proc / "consoles")):
            folder = self._sys / "class/net"
            names = [name for name in listing(folder) if _is_up(text(folder / name / "flags"))]
        for name in names:
            yield from self.down(name, "console", chain)

    def down(self, name: str, guard: str, chain: tuple[str, ...]) -> Iterator[Use]:
        """Yield the cards below an interface, through all that lies on something else."""
        if name not in self._walked:
            self._walked[name] = list(self._walk(name, guard, (), frozenset()))
        yield from used_for(self._walked[name], guard, chain)

    def _walk(
        self, name: str, guard: str, chain: tuple[str, ...], seen: frozenset[str]
    ) -> Iterator[Use]:
        if not name or "/" in name or name in {"lo", ".", ".."} or name in seen:
            return
        interface = real(f"{self._sys}/class/net/{name}")
        if interface is None:
            return
        chain, seen = (name, *chain), seen | {name}
        for lower in self._lowers(name, interface):
            yield from self._walk(lower, guard, chain, seen)
        yield from controllers(interface, guard, chain)

    def _lowers(self, name: str, path: Path) -> list[str]:
        """What the interface lies on: the kernel's lower devices, else what sends for it."""
        lowers = [lower.removeprefix("lower_") for lower in beginning(listing(path), "lower_")]
        known = self._known.get(name, Interface(name=name))
        if known.kind == "veth":
            lowers.append(self._master(known.link) if known.link else "")
        elif known.link:
            lowers.append(known.link)
        if known.kind == _OVS_KIND and name != _OVS_DATAPATH:
            lowers.append(_OVS_DATAPATH)  # which port it sends by, only Open vSwitch knows
        if name == _OVS_DATAPATH:
            lowers += [port.name for port in self._network.interfaces if port.master == name]
        if known.kind in _TUNNELS and not known.link:
            lowers += self._underlay(known)
        return [lower for lower in dict.fromkeys(lowers) if lower]

    def _underlay(self, tunnel: Interface) -> list[str]:
        """The interfaces that a tunnel may send by: those of its ends; all with an address, if it doesn't tell."""
        if tunnel.kind == "tun" and self._master(tunnel.name):
            return []  # a guest's
        return self._at(tunnel.ends) or [
            interface.name
            for interface in self._network.interfaces
            if interface.name != tunnel.name
            and any(not _stays(address) for address in interface.addresses)
        ]

    def _master(self, name: str) -> str:
        known = self._known.get(name)
        if known is not None and known.master:
            return known.master
        return link_name(f"{self._sys}/class/net/{name}/master") or ""


def _named(table: str) -> set[str]:
    """The interfaces in /proc/net/dev."""
    return {line.partition(":")[0].strip() for line in table.splitlines() if ":" in line}


def _stays(address: str) -> bool:
    """Whether nothing beyond the link can be reached from the address."""
    found = ip_address(address)
    return found.is_link_local or found.is_loopback


def _is_up(flags: str) -> bool:
    """Whether an interface has IFF_UP (include/uapi/linux/if.h); one that can't be read may have it."""
    try:
        return bool(int(flags, 16) & 1)
    except ValueError:
        return True
