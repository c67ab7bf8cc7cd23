"""The door to xenstore: Xen's own word on which guest has which device, whoever gave it.

Source: xen/docs/misc/xenstore-paths.pandoc, tools/libs/light/libxl_pci.c (which writes these nodes).
"""

from __future__ import annotations

import errno
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cede.address import Address
from cede.errors import UnreachableError, WorldMovedError
from cede.model import BackendDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyxs

_DOMAINS = "/local/domain"
_BACKEND = f"{_DOMAINS}/0/backend/pci"
_MAX_DEVFN = 0xFF
SOCKET = "/run/xenstored/socket"


@contextmanager
def _answered() -> Iterator[None]:
    """Let a node that isn't there pass; whatever else goes wrong means that xenstore doesn't answer.

    An empty answer would say that no guest has any device.
    """
    from pyxs.exceptions import PyXSError

    try:
        yield
    except (PyXSError, OSError) as error:
        if not error.args or error.args[0] != errno.ENOENT:
            raise UnreachableError(
                f"xenstore gave no answer: {error}",
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

    pyxs has a thread that hands over each answer, for watches; the handing over takes longer than the answer.
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
        with self._one_at_a_time:
            self.connection.send(packet)
            return _Answer(self.connection.recv())

    def terminate(self) -> None:
        self.connection.close()


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
            remedy="is this dom0 of a running Xen? systemctl status xenstored",
        ) from error
    return client


def _data(domid: int, name: str) -> bytes:
    return f"{_DOMAINS}/{domid}/data/{name}".encode()


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

    def _read(self, path: str) -> str | None:
        with _answered():
            return bytes(self._client.read(path.encode())).decode("ascii", errors="replace")
        return None

    def _number(self, path: str, base: int = 10) -> int | None:
        text = self._read(path)
        try:
            return None if text is None else int(text, base)
        except ValueError:
            return None

    def _list(self, path: str) -> list[str]:
        with _answered():
            return [
                bytes(name).decode("ascii", "replace") for name in self._client.list(path.encode())
            ]
        return []

    def read_data(self, domid: int, name: str) -> bytes | None:
        """What a guest has in its own node `data/<name>`; None if there is none. Raises UnreachableError."""
        with _answered():
            return bytes(self._client.read(_data(domid, name)))
        return None

    def write_data(self, domid: int, name: str, value: bytes) -> None:
        """Write a running guest's node `data/<name>`.

        It becomes the guest's, as its `data` is: a node inherits its parent's permissions (xenstored_core.c,
        construct_node), so the guest may write beside it and remove it. Raises UnreachableError, and WorldMovedError if
        the guest isn't there any more, lest a room of its own be made for it.
        """
        if self._read(f"{_DOMAINS}/{domid}/name") is None:
            raise WorldMovedError(f"domain {domid} has ended", remedy="plan again")
        with _answered():
            self._client.write(_data(domid, name), value)

    def remove_data(self, domid: int, name: str) -> None:
        """Remove a guest's node `data/<name>` and all below it, if it is there. Raises UnreachableError."""
        with _answered():
            self._client.delete(_data(domid, name))

    def backend(self) -> tuple[BackendDevice, ...]:
        """Every device that the PCI backend serves, in domain and device order.

        What libxl failed to clear away of a domain that has ended is served to nobody: Xen has taken its devices back.
        Raises UnreachableError if xenstore doesn't answer.
        """
        served = sorted(int(name) for name in self._list(_BACKEND) if name.isdigit())
        alive = set(self._list(_DOMAINS)) if served else set()
        return tuple(
            device
            for domid in served
            if str(domid) in alive
            for number in self._list(f"{_BACKEND}/{domid}")
            for device in self._devices(domid, f"{_BACKEND}/{domid}/{number}")
        )

    def _devices(self, domid: int, base: str) -> Iterator[BackendDevice]:
        backend_state = self._number(f"{base}/state")
        frontend = self._read(f"{base}/frontend")
        frontend_state = self._number(f"{frontend}/state") if frontend else None
        for index in range(self._number(f"{base}/num_devs") or 0):
            address = self._address(f"{base}/dev-{index}")
            if address is not None:
                yield BackendDevice(
                    domid=domid,
                    address=address,
                    index=index,
                    state=self._number(f"{base}/state-{index}"),
                    backend_state=backend_state,
                    frontend_state=frontend_state,
                    virtual_slot=self._slot(base, index),
                    options=self._read(f"{base}/opts-{index}") or "",
                )

    def _address(self, path: str) -> Address | None:
        try:
            return Address.parse(self._read(path) or "")
        except ValueError:
            return None

    def _slot(self, base: str, index: int) -> Address | None:
        """Where the guest sees it: vdevfn-N (hex) if the device model plugged it (HVM), else the kernel's vdev-N.

        An HVM guest has both, and its vdev-N, always slot 0, means nothing to it.
        """
        devfn = self._number(f"{base}/vdevfn-{index}", 16)
        if devfn and 0 < devfn <= _MAX_DEVFN:
            return Address.from_devfn(devfn)
        return self._address(f"{base}/vdev-{index}")
