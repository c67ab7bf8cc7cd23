"""Interfaces that programs have bound sockets to below IP: what such a program does ends with the interface.

A packet socket is a use, unless its program is one that configures interfaces or announces them, and carries on when
one of them goes: what a DHCP client has got for an interface shows in its routes and connections. A capture ends with
its interface, and so does the service of a DHCP server or an access point. A socket that is bound to none is no use.

Only dom0's own network namespace is asked: what a program has bound in another one is an interface there, and that is a
use by itself (`Interfaces.moved` and `lent`).
Sources: net/packet/af_packet.c (packet_seq_show, packet_notifier), drivers/net/ppp/pppoe.c (pppoe_seq_show),
net/can/proc.c (can_print_rcvlist), net/xdp/xsk.c (xsk_create), net/core/sock.c (proto_seq_printf).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cede.adapters.linux.host_uses.connections import connections_unknown
from cede.adapters.linux.host_uses.device_tree import children
from cede.util.kernel_files import existing_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cede.model.network import Network

# the names that the kernel has of programs are 15 characters long at most
_CARRIES_ON = frozenset({
    "dhclient", "dhcpcd", "udhcpc", "NetworkManager", "systemd-network", "connmand", "wpa_supplicant", "lldpd",
    "avahi-autoipd",
})  # fmt: skip
_UNBOUND = frozenset({"0", "-1"})
_PACKET_FIELDS, _INDEX, _INODE = 9, 4, 8
_PPPOE_FIELDS, _PPPOE_NAME = 3, 2
_CAN_FIELDS = 7
_CAN_HEADING, _CAN_ANY = "device", "any"
_PROTOCOL, _COUNT = 0, 2


class PacketSocket(NamedTuple):
    """A packet socket that is bound to the interface of that number; `link` is how /proc/PID/fd shows it."""

    number: str
    link: str


def packet_sockets(proc: Path) -> tuple[PacketSocket, ...]:
    """Return dom0's packet sockets that are bound to an interface.

    Raises PermanentError if the kernel has a table of them that can't be read.
    """
    rows = _rows(proc / "net/packet", _PACKET_FIELDS)
    return tuple(
        PacketSocket(row[_INDEX], f"socket:[{row[_INODE]}]")
        for row in rows[1:]
        if row[_INDEX] not in _UNBOUND
    )


def bound_interfaces(
    proc: Path,
    numbered: Callable[[str], str],
    packets: Sequence[PacketSocket],
    holders: Mapping[str, Sequence[str]],
    network: Network,
) -> Iterator[tuple[str, str]]:
    """Yield each interface that a program has bound a socket to, and what that is.

    `numbered` returns the interface with a number, empty for none; `holders` are the programs that have each of the
    sockets, by its link. Raises PermanentError if a table of the kernel can't be read.
    """
    for socket in packets:
        programs = holders.get(socket.link, ())
        lasting = [program for program in programs if program not in _CARRIES_ON]
        if lasting or not programs:
            who = lasting[0] if lasting else "a program that isn't told"
            yield numbered(socket.number), f"a packet socket of {who}"
    for row in _rows(proc / "net/pppoe", _PPPOE_FIELDS)[1:]:
        yield row[_PPPOE_NAME], "a PPPoE session"
    for path in children(proc / "net/can", "rcvlist_*"):
        for row in _rows(path, _CAN_FIELDS):
            if row[0] not in {_CAN_HEADING, _CAN_ANY}:
                yield row[0], f"a CAN socket ({row[-1]})"
    yield from _of_xdp(proc, network)


def _of_xdp(proc: Path, network: Network) -> Iterator[tuple[str, str]]:
    """Yield the interfaces that AF_XDP sockets may be bound to: no file tells which.

    An interface hands packets to such a socket by an XDP program alone. Where there is none, the sockets only send, by
    any interface that is up.
    """
    counts = {row[_PROTOCOL]: row[_COUNT] for row in _rows(proc / "net/protocols", _COUNT + 1)}
    if counts.get("XDP", "0") == "0":
        return
    running = [one.name for one in network.interfaces if one.xdp]
    for name in running or [one.name for one in network.interfaces if one.up]:
        yield name, "an AF_XDP socket, here or elsewhere"


def _rows(path: Path, least: int) -> list[list[str]]:
    """Return the rows of a table with that many columns; none if there is no such table."""
    try:
        rows = [line.split() for line in existing_text(path).splitlines()]
    except OSError as error:
        raise connections_unknown(path) from error
    return [row for row in rows if len(row) >= least]
