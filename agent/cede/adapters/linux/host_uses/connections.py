"""With whom dom0 talks: connected sockets of every network namespace, and the kernel's storage sessions.

The subflows of MPTCP are in the table of TCP, each as a connection of its own.
Sources: Documentation/networking/proc_net_tcp.rst, include/net/tcp_states.h (also for connected sockets of UDP, raw IP
and ping: net/ipv4/datagram.c, ip4_datagram_connect), net/sctp/proc.c (sctp_assocs_seq_show), sctp_state in
include/net/sctp/constants.h, drivers/scsi/scsi_transport_iscsi.c, drivers/nvme/host/fabrics.c (nvmf_get_address).
"""

from __future__ import annotations

import re
import sys
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, NamedTuple

from cede.adapters.linux.host_uses.device_tree import children
from cede.errors import PermanentError
from cede.util.kernel_files import existing_text, text
from cede.util.text import number

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_ESTABLISHED, _LISTENING = "01", "0A"
_OPEN = frozenset({_ESTABLISHED, "02", "03"})  # also those that are just being made
_DATAGRAMS = {
    "udp": "UDP", "udp6": "UDP", "udplite": "UDP-Lite", "udplite6": "UDP-Lite",
    "raw": "raw IP", "raw6": "raw IP", "icmp": "ping", "icmp6": "ping",
}  # fmt: skip
_WITHOUT_PORTS = frozenset(
    {"raw IP", "ping"}
)  # what stands in their place is a protocol or an identifier
_FIELDS, _WORD = 10, 8
_ASSOCIATIONS, _BETWEEN, _NO_ASSOCIATION = "sctp/assocs", "<->", "0"
_STATE, _REMOTE_PORT, _ADDRESSES = 4, 12, 13  # the columns of _ASSOCIATIONS
_SSH_PORT = 22
_HEADING = "sl"
_TRANSPORT = re.compile(r"\b(traddr|host_traddr)=([0-9a-fA-F:.]+)")


class Connection(NamedTuple):
    """A connected socket, or one that is being connected, of the protocol `kind`; `ssh` if it is one to dom0's sshd.

    `port` is the peer's, 0 where the protocol has none.
    """

    local: str
    peer: str
    port: int
    ssh: bool = False
    kind: str = "TCP"

    def __str__(self) -> str:
        port = f", port {self.port}" if self.port else ""
        article = "an" if self.kind == "SCTP" else "a"
        return f"{article} {self.kind} connection to {self.peer}{port}"


class _Tables(NamedTuple):
    """The tables of one network namespace: their folder, and the rows of TCP in IPv4 and IPv6."""

    folder: Path
    tcp: list[list[str]]


class Session(NamedTuple):
    """A session with a storage server: its name in the paths of its disks, what it is, the addresses of its ends."""

    name: str
    what: str
    addresses: tuple[str, ...]


def connections(
    proc: Path, namespaces: Mapping[str, Sequence[str]], sshd_sockets: frozenset[str]
) -> tuple[Connection, ...]:
    """Return the connections of dom0's network namespace and of all others, each pair of addresses once.

    Raises PermanentError if a table of the kernel can't be read: nothing found would say that nobody is connected.
    """
    own = _tables_in(proc / "net")
    if own is None:
        raise connections_unknown(proc / "net/tcp")
    ports = {
        _endpoint(row[1])[1]
        for row in own.tcp
        if row[3] == _LISTENING and f"socket:[{row[9]}]" in sshd_sockets
    } or {_SSH_PORT}  # as when systemd listens for sshd
    others = (_tables_of(proc, processes) for processes in namespaces.values())
    found = dict.fromkeys(
        connection
        for tables in (own, *others)
        if tables is not None
        for connection in _connections(tables, ports)
    )
    return tuple(found)


def connections_unknown(path: str | Path) -> PermanentError:
    """Return the error for a table of the kernel that can't be read."""
    return PermanentError(
        f"{path} can't be read, so cede can't tell which connections there are",
        name="connections-unknown",
        remedy="is /proc mounted, and does cede run as root?",
    )


def _tables_in(folder: Path) -> _Tables | None:
    """The tables there; None if there are none."""
    four = text(f"{folder}/tcp")
    if not four.startswith(_HEADING):
        return None
    return _Tables(folder, [*_parsed(four.splitlines()), *_rows(f"{folder}/tcp6")])


def _tables_of(proc: Path, processes: Sequence[str]) -> _Tables | None:
    """The tables of the network namespace that these processes are in; None if all of them have ended.

    What has ended and isn't waited for has no network any more, though it is listed.
    """
    for process in processes:
        tables = _tables_in(proc / process / "net")
        if tables is not None:
            return tables
    alive = next((one for one in processes if text(proc / one / "cmdline")), None)
    if alive is not None:
        raise connections_unknown(proc / alive / "net/tcp")
    return None


def _connections(tables: _Tables, ssh_ports: set[int]) -> Iterator[Connection]:
    """Yield the connections in the tables of one network namespace; there is no table of what the kernel lacks."""
    for row in tables.tcp:
        if row[3] in _OPEN:
            yield from _connection(row, "TCP", ssh_ports)
    for name, kind in _DATAGRAMS.items():
        for row in _rows(f"{tables.folder}/{name}"):
            if row[3] == _ESTABLISHED:
                yield from _connection(row, kind)
    for line in _lines(f"{tables.folder}/{_ASSOCIATIONS}"):
        yield from _association(line.split())


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


def _lines(path: str) -> list[str]:
    try:
        return existing_text(path).splitlines()
    except OSError as error:
        raise connections_unknown(path) from error


def _rows(path: str) -> list[list[str]]:
    return _parsed(_lines(path))


def _parsed(lines: Iterable[str]) -> list[list[str]]:
    rows = [line.split() for line in lines]
    return [row for row in rows if len(row) >= _FIELDS]


def _connection(
    row: Sequence[str], kind: str, ssh_ports: Collection[int] = ()
) -> Iterator[Connection]:
    (local, local_port), (peer, port) = _endpoint(row[1]), _endpoint(row[2])
    if not local or ip_address(local).is_loopback:
        return
    ssh = local_port in ssh_ports and row[3] == _ESTABLISHED
    yield Connection(local, peer, 0 if ssh or kind in _WITHOUT_PORTS else port, ssh, kind)


def _association(row: Sequence[str]) -> Iterator[Connection]:
    """Yield a connection for each pair of addresses of an SCTP association, which may have several of both."""
    if len(row) <= _ADDRESSES or _BETWEEN not in row or row[_STATE] == _NO_ASSOCIATION:
        return
    between = row.index(_BETWEEN)
    locals_, peers = (
        [known for word in part if (known := _known(word.removeprefix("*")))]
        for part in (row[_ADDRESSES:between], row[between + 1 :])
    )
    port = number(row[_REMOTE_PORT]) or 0
    for local in locals_:
        if not ip_address(local).is_loopback:
            yield from (Connection(local, peer, port, kind="SCTP") for peer in peers)


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
