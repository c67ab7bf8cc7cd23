"""With whom dom0 talks: established TCP connections of every network namespace, and the kernel's storage sessions.

Sources: Documentation/networking/proc_net_tcp.rst, include/net/tcp_states.h, drivers/scsi/scsi_transport_iscsi.c,
drivers/nvme/host/fabrics.c (nvmf_get_address).
"""

from __future__ import annotations

import re
import sys
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple

from cede.adapters.linux.host_uses.device_tree import children
from cede.errors import PermanentError
from cede.util.kernel_files import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_ESTABLISHED, _CONNECTING, _LISTENING = "01", "02", "0A"
_FIELDS, _WORD = 10, 8
_SSH_PORT = 22
_HEADING = "sl"
_TRANSPORT = re.compile(r"\b(traddr|host_traddr)=([0-9a-fA-F:.]+)")


class Connection(NamedTuple):
    """A TCP connection, or one that is being made; `ssh` if it is one to dom0's sshd."""

    local: str
    peer: str
    port: int
    ssh: bool = False


class Session(NamedTuple):
    """A session with a storage server: its name in the paths of its disks, what it is, the addresses of its ends."""

    name: str
    what: str
    addresses: tuple[str, ...]


def connections(
    proc: Path, namespaces: Mapping[str, Sequence[str]], sshd_sockets: frozenset[str]
) -> tuple[Connection, ...]:
    """Return the connections of dom0's network namespace and of all others, each pair of addresses once.

    Raises PermanentError if the kernel's table can't be read: nothing found would say that nobody is connected.
    """
    if not text(proc / "net/tcp").startswith(_HEADING):
        raise PermanentError(
            f"{proc}/net/tcp can't be read, so cede can't tell which connections there are",
            name="connections-unknown",
            remedy="is /proc mounted?",
        )
    own = [row for name in ("net/tcp", "net/tcp6") for row in _rows(proc / name)]
    ports = {
        _endpoint(row[1])[1]
        for row in own
        if row[3] == _LISTENING and f"socket:[{row[9]}]" in sshd_sockets
    } or {_SSH_PORT}  # as when systemd listens for sshd
    others = [
        row
        for processes in namespaces.values()
        for name in ("net/tcp", "net/tcp6")
        for row in _rows(proc / processes[0] / name)
    ]
    found = dict.fromkeys(
        connection for row in (*own, *others) for connection in _connection(row, ports)
    )
    return tuple(found)


def storage_sessions(sys_root: Path) -> tuple[Session, ...]:
    """Return the iSCSI sessions and the NVMe controllers over a network."""
    found = []
    for path in children(sys_root, "class/iscsi_connection/connection*"):
        number = path.name.removeprefix("connection").partition(":")[0]
        peers = [text(path / name) for name in ("address", "persistent_address")]
        found.append(_session(f"session{number}", "the iSCSI session to", peers))
    for path in children(sys_root, "class/nvme/nvme*"):
        ends = dict(_TRANSPORT.findall(text(path / "address")))
        peers = [ends[end] for end in ("traddr", "host_traddr") if end in ends]
        if text(path / "transport") in {"tcp", "rdma"}:
            found.append(_session(path.name, "the NVMe session to", peers))
    return tuple(found)


def _session(name: str, what: str, peers: Sequence[str]) -> Session:
    addresses = tuple(dict.fromkeys(peer for peer in map(_known, peers) if peer))
    return Session(name, f"{what} {addresses[0] if addresses else 'an unknown server'}", addresses)


def _known(written: str) -> str:
    try:
        return str(ip_address(written))
    except ValueError:
        return ""


def _rows(path: Path) -> list[list[str]]:
    rows = [line.split() for line in text(path).splitlines()]
    return [row for row in rows if len(row) >= _FIELDS]


def _connection(row: Sequence[str], ssh_ports: set[int]) -> Iterator[Connection]:
    if row[3] not in {_ESTABLISHED, _CONNECTING}:
        return
    (local, local_port), (peer, port) = _endpoint(row[1]), _endpoint(row[2])
    if local and not ip_address(local).is_loopback:
        ssh = local_port in ssh_ports and row[3] == _ESTABLISHED
        yield Connection(local, peer, 0 if ssh else port, ssh)


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
