"""The adapter to xenstore: Xen's own word on which guest has which device, whoever gave it.

Source: xen/docs/misc/xenstore-paths.pandoc, tools/libs/light/libxl_pci.c (which writes these nodes).
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cede.errors import UnreachableError, WorldMovedError
from cede.model.inventory import BackendDevice, LibxlNote
from cede.model.pci import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pyxs

_DOMAINS = "/local/domain"
_BACKEND = f"{_DOMAINS}/0/backend/pci"
_LIBXL_NOTES = "/libxl/pci"
_MAX_DEVFN = 0xFF
_OF_EACH = ("dev", "state", "opts", "vdevfn", "vdev")
_MAX_DEVICES = 256  # drivers/xen/xen-pciback and libxl stop well below
SOCKET = "/run/xenstored/socket"


@contextmanager
def _answered() -> Iterator[None]:
    """Whatever goes wrong means that xenstore doesn't answer; nothing found would say that no guest has any device."""
    from pyxs.exceptions import PyXSError

    try:
        yield
    except (PyXSError, OSError) as error:
        raise UnreachableError(
            f"xenstore gave no answer: {error}",
            name="xenstore-unreachable",
            remedy="is it running? systemctl status xenstored",
        ) from error


@dataclass(frozen=True, slots=True)
class _Answer:
    """What pyxs waits for; it is there already."""

    packet: Any

    def get(self) -> Any:  # noqa: ANN401 - pyxs has no types
        return self.packet


class _Exchange:
    """Stands in for pyxs.Router: whoever asks waits for the answer, one at a time.

    pyxs has a thread that hands over each answer, for watches; the handing over takes longer than the answer. And it
    asks for one node after the other; many together save the way there and back.
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - pyxs has no types
        self.connection = connection
        self._one_at_a_time = threading.Lock()

    @property
    def is_connected(self) -> bool:
        return bool(self.connection.is_connected)

    def start(self) -> None:
        self.connection.connect()

    def send(self, packet: Any) -> _Answer:  # noqa: ANN401 - pyxs has no types
        (answer,) = self._exchange([packet])
        return _Answer(answer)

    def ask(self, operation: str, paths: Sequence[str]) -> list[bytes | None]:
        """What xenstored answers to READ, DIRECTORY or RM of each path, None for a node that isn't there."""
        from pyxs._internal import NUL, Op, Packet, next_rq_id

        op = getattr(Op, operation)
        asked = [Packet(op, path.encode() + NUL, rq_id=next_rq_id()) for path in paths]
        return [_payload(*pair) for pair in zip(asked, self._exchange(asked), strict=True)]

    def _exchange(self, packets: Sequence[Any]) -> list[Any]:
        with self._one_at_a_time:
            for packet in packets:
                self.connection.send(packet)
            return [self.connection.recv() for _ in packets]

    def terminate(self) -> None:
        self.connection.close()


def _payload(asked: Any, answer: Any) -> bytes | None:  # noqa: ANN401 - pyxs has no types
    """Raises PyXSError for what is neither the answer to what was asked nor says that there is no such node."""
    from pyxs._internal import NUL, Op
    from pyxs.exceptions import UnexpectedPacket
    from pyxs.helpers import error

    if answer.rq_id != asked.rq_id or answer.op not in {asked.op, Op.ERROR}:
        raise UnexpectedPacket(answer)
    if answer.op == asked.op:
        return bytes(answer.payload.rstrip(NUL))
    if answer.payload == b"ENOENT" + NUL:
        return None
    raise error(answer.payload[:-1])


def _connect(socket: str) -> pyxs.Client:
    import pyxs
    from pyxs.connection import UnixSocketConnection
    from pyxs.exceptions import ConnectionError as NoXenstore

    client = pyxs.Client(router=_Exchange(UnixSocketConnection(socket)))
    try:
        client.connect()
    except (NoXenstore, OSError) as error:
        raise UnreachableError(
            f"xenstore doesn't answer at {socket}: {error}",
            name="xenstore-unreachable",
            remedy="is this dom0 of a running Xen? systemctl status xenstored",
        ) from error
    return client


def _libxl_address(name: str) -> Address | None:
    """libxl's spelling of an address in xenstore, `0000-01-00-0` (PCI_BDF_XSPATH)."""
    match = re.fullmatch(r"([0-9a-f]{4})-([0-9a-f]{2})-([0-9a-f]{2})-([0-7])", name)
    return Address.parse("{}:{}:{}.{}".format(*match.groups())) if match else None


def _data(domid: int, name: str) -> str:
    return f"{_DOMAINS}/{domid}/data/{name}"


class Xenstore:
    """Speaks through one connection, opened at the first question. It writes below a guest's `data` alone."""

    def __init__(
        self, socket: str = SOCKET, connect: Callable[[str], pyxs.Client] = _connect
    ) -> None:
        self._socket = socket
        self._connect = connect
        self._open: pyxs.Client | None = None
        self._opening = threading.Lock()

    @property
    def _client(self) -> pyxs.Client:
        with self._opening:
            if self._open is None:
                self._open = self._connect(self._socket)
            return self._open

    def close(self) -> None:
        """Close the connection; the next question opens a new one."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _read(self, *paths: str) -> list[str | None]:
        """What stands in each node, None for one that isn't there."""
        with _answered():
            answers = self._client.router.ask("READ", paths)
        return [None if a is None else a.decode("ascii", errors="replace") for a in answers]

    def _list(self, *paths: str) -> list[list[str]]:
        """The names below each node, none below one that isn't there."""
        with _answered():
            answers = self._client.router.ask("DIRECTORY", paths)
        return [a.decode("ascii", errors="replace").split("\0") if a else [] for a in answers]

    def read_data(self, domid: int, name: str) -> bytes | None:
        """What a guest has in its own node `data/<name>`; None if there is none. Raises UnreachableError."""
        with _answered():
            answer: bytes | None = self._client.router.ask("READ", [_data(domid, name)])[0]
        return answer

    def write_data(self, domid: int, name: str, value: bytes) -> None:
        """Write a running guest's node `data/<name>`.

        It becomes the guest's, as its `data` is: a node inherits its parent's permissions (xenstored_core.c,
        construct_node), so the guest may write beside it and remove it. Raises UnreachableError, and WorldMovedError if
        the guest isn't there any more, lest a room of its own be made for it.
        """
        if self._read(f"{_DOMAINS}/{domid}/name") == [None]:
            raise WorldMovedError(
                f"domain {domid} has ended", name="domain-ended", remedy="plan again"
            )
        with _answered():
            self._client.write(_data(domid, name).encode(), value)

    def remove_data(self, domid: int, name: str) -> None:
        """Remove a guest's node `data/<name>` and all below it, if it is there. Raises UnreachableError."""
        with _answered():
            self._client.router.ask("RM", [_data(domid, name)])

    def backend(self) -> tuple[BackendDevice, ...]:
        """Every device that the PCI backend serves, in domain and device order.

        What libxl failed to clear away of a domain that has ended is served to nobody: Xen has taken its devices back.
        Raises UnreachableError if xenstore doesn't answer.
        """
        served, alive = self._list(_BACKEND, _DOMAINS)
        domids = sorted(int(name) for name in served if name.isdigit() and name in alive)
        folders = self._list(*(f"{_BACKEND}/{domid}" for domid in domids))
        bases = [
            (domid, f"{_BACKEND}/{domid}/{number}")
            for domid, numbers in zip(domids, folders, strict=True)
            for number in numbers
        ]
        return tuple(device for domid, base in bases for device in self._devices(domid, base))

    def stale_notes(self) -> tuple[LibxlNote, ...]:
        """What libxl still notes of devices of domains that are gone, and trips over at the next attach.

        Raises UnreachableError if xenstore doesn't answer.
        """
        alive, names = self._list(_DOMAINS, _LIBXL_NOTES)
        owned = self._read(*(f"{_LIBXL_NOTES}/{name}/domid" for name in names))
        found = (
            (_libxl_address(name), _number(domid)) for name, domid in zip(names, owned, strict=True)
        )
        return tuple(
            LibxlNote(address=address, domid=domid)
            for address, domid in found
            if address is not None and domid is not None and str(domid) not in alive
        )

    def _devices(self, domid: int, base: str) -> Iterator[BackendDevice]:
        number, state, frontend = self._read(
            *(f"{base}/{name}" for name in ("num_devs", "state", "frontend"))
        )
        indexes = range(min(_number(number) or 0, _MAX_DEVICES))
        frontend_state, *nodes = self._read(
            f"{frontend}/state" if frontend else f"{base}/frontend/state",
            *(f"{base}/{name}-{index}" for index in indexes for name in _OF_EACH),
        )
        for index in indexes:
            dev, state_n, options, vdevfn, vdev = nodes[len(_OF_EACH) * index :][: len(_OF_EACH)]
            address = _address(dev)
            if address is not None:
                yield BackendDevice(
                    domid=domid,
                    address=address,
                    index=index,
                    state=_number(state_n),
                    backend_state=_number(state),
                    frontend_state=_number(frontend_state),
                    virtual_slot=_slot(vdevfn, vdev),
                    options=options or "",
                )


def _number(text: str | None, base: int = 10) -> int | None:
    try:
        return None if text is None else int(text, base)
    except ValueError:
        return None


def _address(text: str | None) -> Address | None:
    try:
        return Address.parse(text or "")
    except ValueError:
        return None


def _slot(vdevfn: str | None, vdev: str | None) -> Address | None:
    """Where the guest sees it: vdevfn-N (hex) if the device model plugged it (HVM), else the kernel's vdev-N.

    An HVM guest has both, and its vdev-N, always slot 0, means nothing to it.
    """
    devfn = _number(vdevfn, 16)
    if devfn and 0 < devfn <= _MAX_DEVFN:
        return Address.from_devfn(devfn)
    return _address(vdev)
