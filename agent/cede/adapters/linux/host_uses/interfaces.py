"""Uses of network cards: the default route, ssh sessions, guests' networks.

Sources: proc(5), Documentation/networking/proc_net_tcp.rst, Documentation/ABI/testing/sysfs-class-net (lower_*), and
the kernel's net/ipv4/fib_trie.c and net/ipv6/route.c for the flags.
"""

from __future__ import annotations

import sys
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from cede.adapters.linux.host_uses.device_tree import children, controllers, real
from cede.util.kernel_files import link_name, listing, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cede.adapters.linux.host_uses.device_tree import Use

_IPV4_DEFAULT = "00000000"
_IPV6_DEFAULT = ("0" * 32, "00")
_UP = 0x1
_ROUTE_FIELDS, _ROUTE6_FIELDS = 4, 10
_ESTABLISHED, _LISTENING = "01", "0A"
_SSH_PORT = 22
_TCP_FIELDS = 10
_WORD = 8


class Interfaces:
    """Finds uses of interfaces below `sys_root`; `addresses()` returns the interface of each IP address."""

    def __init__(
        self, sys_root: Path, proc_root: Path, addresses: Callable[[], Mapping[str, str]]
    ) -> None:
        self._sys = sys_root
        self._proc = proc_root
        self._addresses = addresses

    def default_routes(self) -> Iterator[Use]:
        """Yield the devices of the default routes, IPv4 and IPv6."""
        for fields in self._table("net/route", _ROUTE_FIELDS):
            if fields[1] == _IPV4_DEFAULT and _number(fields[3]) & _UP:
                yield from self._down(fields[0], "default-route", ("the default route",))
        for fields in self._table("net/ipv6_route", _ROUTE6_FIELDS):
            if (fields[0], fields[1]) == _IPV6_DEFAULT and _number(fields[-2]) & _UP:
                yield from self._down(fields[-1], "default-route", ("the default route",))

    def ssh_sessions(self) -> Iterator[Use]:
        """Yield the devices of connections to dom0's sshd. Raises what `addresses` raises."""
        sockets = [*self._table("net/tcp", _TCP_FIELDS), *self._table("net/tcp6", _TCP_FIELDS)]
        ports = self._sshd_ports(sockets)
        here = {
            address: None  # in order, each once
            for fields in sockets
            if fields[3] == _ESTABLISHED
            for address, port in [_endpoint(fields[1])]
            if port in ports and address and not ip_address(address).is_loopback
        }
        if not here:
            return
        interfaces = self._addresses()
        for address in here:
            name = interfaces.get(address, "")
            yield from self._down(name, "ssh", (f"an ssh session to {address}",))

    def of_guests(self, interfaces: Mapping[str, Sequence[str]]) -> Iterator[Use]:
        """Yield the devices of the bridges and cards that domains' NICs use."""
        for domain, names in interfaces.items():
            for name in names:
                yield from self._down(name, "guest-network", (f"the network of {domain}",))

    def _table(self, name: str, fields: int) -> list[list[str]]:
        """Return the rows of a table in /proc that have at least so many fields."""
        rows = [line.split() for line in text(self._proc / name).splitlines()]
        return [row for row in rows if len(row) >= fields]

    def _sshd_ports(self, sockets: list[list[str]]) -> set[int]:
        """Return the ports on which sshd listens; 22 if unknown, as when systemd listens for sshd."""
        listening = {
            f"socket:[{fields[9]}]": _endpoint(fields[1])[1]
            for fields in sockets
            if fields[3] == _LISTENING
        }
        found: set[int] = set()
        for process in listing(self._proc):
            if not process.isdecimal() or text(f"{self._proc}/{process}/comm") != "sshd":
                continue
            open_files = f"{self._proc}/{process}/fd"
            for descriptor in listing(open_files):
                port = listening.get(link_name(f"{open_files}/{descriptor}") or "")
                if port is not None:
                    found.add(port)
        return found or {_SSH_PORT}

    def _down(
        self, name: str, guard: str, chain: tuple[str, ...], seen: frozenset[str] = frozenset()
    ) -> Iterator[Use]:
        """Walk from an interface down through bridges, bonds and VLANs to the cards."""
        if not name or "/" in name or name == "lo" or name in seen:
            return
        interface = real(self._sys / "class/net" / name)
        if interface is None:
            return
        chain, seen = (name, *chain), seen | {name}
        for lower in children(interface, "lower_*"):
            yield from self._down(lower.name.removeprefix("lower_"), guard, chain, seen)
        yield from controllers(interface, guard, chain)


def _number(digits: str) -> int:
    try:
        return int(digits, 16)
    except ValueError:
        return 0


def _endpoint(hexed: str) -> tuple[str, int]:
    """Parse `0F02000A:0016` as ("10.0.2.15", 22): network order, printed as the host's integers."""
    address, _, port = hexed.rpartition(":")
    try:
        words = [int(address[n : n + _WORD], 16) for n in range(0, len(address), _WORD)]
        found = ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    except (ValueError, OverflowError):
        return "", 0
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return str(found), _number(port)
