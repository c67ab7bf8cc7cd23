"""dom0's own IP addresses, each with its interface, asked of the kernel without another program.

Sources: netdevice(7) (SIOCGIFCONF), Documentation/networking/ipv6.rst and net/ipv6/addrconf.c (/proc/net/if_inet6).
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cede.errors import PermanentError

_SIOCGIFCONF = 0x8912
_IFREQ = struct.Struct("16s H 2x 4s 16x")  # the name, and a sockaddr_in up to its address
_ASKED_FIRST = 64
_IF_INET6 = Path("/proc/net/if_inet6")


def ip_addresses(if_inet6: Path = _IF_INET6) -> dict[str, str]:
    """Each address with the name of its interface, IPv4 and IPv6.

    Raises PermanentError if the kernel doesn't tell; that it has no IPv6 is an answer.
    """
    try:
        found = {str(IPv4Address(raw)): _name(label) for label, raw in _ipv4()}
        listed = if_inet6.read_text(encoding="ascii") if if_inet6.exists() else ""
        for line in listed.splitlines():
            digits, *_, name = line.split()
            found[str(IPv6Address(bytes.fromhex(digits)))] = name
    except (OSError, ValueError) as error:
        raise PermanentError(
            f"the kernel doesn't tell dom0's own IP addresses: {error}", name="addresses-unknown"
        ) from error
    return found


def _name(label: bytes) -> str:
    """The interface of an address that may have a label of its own, as `eth0:1`."""
    return label.rstrip(b"\0").decode("utf-8", "replace").partition(":")[0]


def _ipv4() -> list[tuple[bytes, bytes]]:
    """Label and address of all of them; the kernel fills what it is given, so it is given more until some is left."""
    room = _ASKED_FIRST
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        while True:
            answer = array.array("B", bytes(room * _IFREQ.size))
            pointer, _ = answer.buffer_info()
            wanted = struct.pack("iL", len(answer), pointer)
            (filled,) = struct.unpack_from("i", fcntl.ioctl(asked, _SIOCGIFCONF, wanted))
            if filled < len(answer):
                packed = answer.tobytes()[:filled]
                return [(label, raw) for label, _, raw in _IFREQ.iter_unpack(packed)]
            room *= 2
