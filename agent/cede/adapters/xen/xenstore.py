"""The adapter to xenstore: Xen's own word on which guest has which device, whoever gave it.

Source: xen/docs/misc/xenstore-paths.pandoc, tools/libs/light/libxl_pci.c (which writes these nodes).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from cede.adapters.xen import served
from cede.adapters.xen.xenstore_client import Nodes, Operation, XenstoreClient
from cede.errors import IndeterminateError, WorldMovedError
from cede.model.domain import MAX_DOMID, Silence
from cede.model.inventory import CLOSING, CONNECTED, BackendDevice, LibxlNote
from cede.model.pci import Address
from cede.util.text import number

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping


_DOMAINS = "/local/domain"
_BACKEND = f"{_DOMAINS}/0/backend/pci"
_LIBXL_NOTES = "/libxl/pci"
_SUSPEND = "suspend"
_INDEX = re.compile(r"[0-9]{1,5}")
_FRONTEND = re.compile(r"/local/domain/[0-9]{1,5}/device/pci/[0-9]{1,5}")
_MAX_DEVFN = 0xFF
_LIBXL_DEVICE = "/libxl/{}/device/pci/0"
_OF_EACH = ("dev", "state", "opts", "vdevfn", "vdev")
_OF_A_DEVICE = (*_OF_EACH, "key", "name")
_MAX_DEVICES = 256  # drivers/xen/xen-pciback and libxl stop well below


def _libxl_address(name: str) -> Address | None:
    """libxl's spelling of an address in xenstore, `0000-01-00-0` (PCI_BDF_XSPATH)."""
    match = re.fullmatch(r"([0-9a-f]{4})-([0-9a-f]{2})-([0-9a-f]{2})-([0-7])", name)
    return Address.parse("{}:{}:{}.{}".format(*match.groups())) if match else None


def _data(domid: int, name: str) -> str:
    return f"{_DOMAINS}/{domid}/data/{name}"


class Client(Nodes, Protocol):
    """A connection to xenstore; see `XenstoreClient`."""

    def in_transaction(self, change: Callable[[Nodes], None]) -> None:
        """Have `change` ask and write in one transaction."""

    def close(self) -> None:
        """End the connection."""


class Xenstore:
    """Reads what Xen's tools wrote down, through one connection; writes a guest's `data`, and clears up after libxl.

    Nothing found would say that no guest has any device, so a xenstore that doesn't answer is always an error.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._questions = served.Questions(read=self._read, names=self._list)

    def close(self) -> None:
        """Close the connection; the next question opens a new one."""
        self._client.close()

    def _read(self, *paths: str) -> list[str | None]:
        """What stands in each node, None for one that isn't there."""
        answers = self._client.ask(Operation.READ, paths)
        return [None if a is None else a.decode("ascii", errors="replace") for a in answers]

    def _list(self, *paths: str) -> list[list[str]]:
        """The names below each node, none below one that isn't there."""
        answers = self._client.ask(Operation.DIRECTORY, paths)
        return [a.decode("ascii", errors="replace").split("\0") if a else [] for a in answers]

    def read_data(self, domid: int, name: str) -> bytes | None:
        """Return what a guest has in its own node `data/<name>`; None if there is none. Raises UnreachableError."""
        return self._client.ask(Operation.READ, [_data(domid, name)])[0]

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
        self._client.write(_data(domid, name), value)

    def remove_data(self, domid: int, name: str) -> None:
        """Remove a guest's node `data/<name>` and all below it, if it is there. Raises UnreachableError."""
        self._client.ask(Operation.RM, [_data(domid, name)])

    def backend(self) -> tuple[BackendDevice, ...]:
        """Return every device that the PCI backend serves, in domain and device order.

        What libxl failed to clear away of a domain that has ended is served to nobody: Xen has taken its devices back.
        Raises UnreachableError if xenstore doesn't answer.
        """
        given, alive = self._list(_BACKEND, _DOMAINS)
        domids = sorted({d for d in map(_domid, given) if d is not None and str(d) in alive})
        folders = self._list(*(f"{_BACKEND}/{domid}" for domid in domids))
        bases = [
            (domid, f"{_BACKEND}/{domid}/{index}")
            for domid, indexes in zip(domids, folders, strict=True)
            for index in indexes
            if _INDEX.fullmatch(index)
        ]
        return tuple(device for domid, base in bases for device in self._devices(domid, base))

    def remove_given_up(self, given: BackendDevice) -> None:
        """Remove the nodes of a device whose detach was given up, as libxl does when a guest answers in time.

        The devices behind it move up by one; with the last one both ends of the connection go. Source:
        tools/libs/light/libxl_pci.c (libxl__device_pci_remove_xenstore). Raises UnreachableError, and WorldMovedError
        if somebody is at it again.
        """
        base = f"{_BACKEND}/{given.domid}/0"
        frontend = f"{_DOMAINS}/{given.domid}/device/pci/0"
        fixed = (f"{base}/num_devs", f"{base}/dev-{given.index}", f"{base}/state-{given.index}")

        def remove(nodes: Nodes) -> None:
            *found, state, answered = nodes.ask(
                Operation.READ, [*fixed, f"{base}/state", f"{frontend}/state"]
            )
            count = number((found[0] or b"").decode("ascii", "replace")) or 0
            closing, connected = str(CLOSING).encode(), str(CONNECTED).encode()
            expected = [str(given.address).encode(), closing, connected, connected]
            if [*found[1:], state, answered] != expected or not given.index < count <= _MAX_DEVICES:
                raise WorldMovedError(
                    f"the backend of domain {given.domid} has changed",
                    name="backend-changed",
                    remedy="plan again",
                )
            if count == 1:
                nodes.ask(Operation.RM, [frontend, _LIBXL_DEVICE.format(given.domid), base])
                return
            _move_up(nodes, base, given.index, count)
            nodes.write(f"{base}/num_devs", str(count - 1).encode())

        self._client.in_transaction(remove)

    def silences(self) -> Mapping[int, Silence]:
        """Return by its id each guest that was asked to shut down or to be saved, and hasn't taken that in yet.

        A guest empties the node when it begins. Source: docs/misc/xenstore-paths.pandoc (`control/shutdown`). Raises
        UnreachableError if xenstore doesn't answer.
        """
        (alive,) = self._list(_DOMAINS)
        domids = [domid for name in alive if (domid := _domid(name))]
        asked = self._read(*(f"{_DOMAINS}/{domid}/control/shutdown" for domid in domids))
        return {
            domid: Silence.SAVING if word == _SUSPEND else Silence.SHUTTING_DOWN
            for domid, word in zip(domids, asked, strict=True)
            if word
        }

    def guest_disks(self) -> dict[str, tuple[str, ...]]:
        """What dom0 serves to each guest as a disk, whoever started the guest, by the guest's name.

        Each is a block device's number `8:1`, or the path of a device or file. Raises UnreachableError if xenstore
        doesn't answer.
        """
        return served.disks(self._questions)

    def guest_interfaces(self) -> dict[str, tuple[str, ...]]:
        """The bridges of dom0 that guests' NICs are on, and their interfaces, whoever started the guest, by its name.

        Raises UnreachableError if xenstore doesn't answer.
        """
        return served.interfaces(self._questions)

    def guest_devices(self) -> dict[str, tuple[str, ...]]:
        """What dom0 serves to each guest besides, as USB and SCSI devices, by the guest's name (model/served.py).

        Raises UnreachableError if xenstore doesn't answer, IndeterminateError if what it has can't be told.
        """
        return served.devices(self._questions)

    def stale_notes(self) -> tuple[LibxlNote, ...]:
        """Return libxl's records of devices of domains that are gone, on which the next attach fails.

        Raises UnreachableError if xenstore doesn't answer.
        """
        alive, listed = self._list(_DOMAINS, _LIBXL_NOTES)
        names = [name for name in listed if _libxl_address(name) is not None]
        owned = self._read(*(f"{_LIBXL_NOTES}/{name}/domid" for name in names))
        found = (
            (_libxl_address(name), _domid(domid)) for name, domid in zip(names, owned, strict=True)
        )
        return tuple(
            LibxlNote(address=address, domid=domid)
            for address, domid in found
            if address is not None and domid is not None and str(domid) not in alive
        )

    def _devices(self, domid: int, base: str) -> Iterator[BackendDevice]:
        devices, state, frontend = self._read(
            *(f"{base}/{name}" for name in ("num_devs", "state", "frontend"))
        )
        if devices is not None and number(devices) is None:
            raise _unclear(f"{base}/num_devs")
        indexes = range(min(number(devices) or 0, _MAX_DEVICES))
        frontend_state, *nodes = self._read(
            f"{frontend}/state" if _is_frontend(frontend) else f"{base}/frontend/state",
            *(f"{base}/{name}-{index}" for index in indexes for name in _OF_EACH),
        )
        for index in indexes:
            dev, state_n, options, vdevfn, vdev = nodes[len(_OF_EACH) * index :][: len(_OF_EACH)]
            address = _address(dev)
            if address is None and dev is not None:
                raise _unclear(f"{base}/dev-{index}")
            if address is not None:
                yield BackendDevice(
                    domid=domid,
                    address=address,
                    index=index,
                    state=number(state_n),
                    backend_state=number(state),
                    frontend_state=number(frontend_state),
                    virtual_slot=_address(vdev),
                    device_model_slot=_device_model_slot(vdevfn),
                    options=options or "",
                )


def _unclear(path: str) -> IndeterminateError:
    """Return the error for a node that only Xen's tools write: passing it over would call a given device free."""
    return IndeterminateError(
        f"xenstore's {path} is none that Xen's tools write, so which guest has which device can't be read_nodes",
        name="backend-unknown",
        remedy=f"see `xenstore-ls {path.rpartition('/')[0]}`, and who wrote there",
    )


def _move_up(nodes: Nodes, base: str, index: int, count: int) -> None:
    """Remove the device at `index` of `count`, and give those behind it its number and the ones after."""
    for at in range(index, count):
        names = [f"{base}/{name}-{at}" for name in _OF_A_DEVICE]
        kept = nodes.ask(Operation.READ, [f"{base}/{name}-{at + 1}" for name in _OF_A_DEVICE])
        for name, value in zip(names, kept, strict=True):
            if at + 1 < count and value is not None:
                nodes.write(name, value)
            else:
                nodes.ask(Operation.RM, [name])


def _domid(text: str | None) -> int | None:
    return number(text, most=MAX_DOMID)


def _is_frontend(path: str | None) -> bool:
    """Whether this is where a guest has its end: a path of any other form would have xenstored refuse the question."""
    return path is not None and _FRONTEND.fullmatch(path) is not None


def _address(text: str | None) -> Address | None:
    try:
        return Address.parse(text or "")
    except ValueError:
        return None


def _device_model_slot(vdevfn: str | None) -> Address | None:
    """Where the device model has plugged it, in hex (libxl_pci.c, pci_add_dm_done); 0 is said of none."""
    devfn = number((vdevfn or "").removeprefix("0x"), 16, most=_MAX_DEVFN)
    return Address.from_devfn(devfn) if devfn else None


BACKEND = "/local/domain/0/backend/pci"
WATCHED = (BACKEND, "@introduceDomain", "@releaseDomain")
_WORDS = {"@introduceDomain": "a domain came", "@releaseDomain": "a domain went"}


class XenstoreWatch:
    """Watches PCI's backend nodes and domains."""

    name = "xenstore"

    def __init__(self, client: XenstoreClient) -> None:
        self._client = client
        self._new: set[str] = set()

    def open(self) -> None:
        """Connect and set the watches. Raises UnreachableError if xenstored doesn't answer or refuses."""
        self._new = set(WATCHED)  # xenstored fires each watch once when it is set
        self._client.watch(WATCHED)

    def fileno(self) -> int:
        """Return the descriptor that is readable when xenstored has said something."""
        return self._client.fileno()

    def read(self) -> Collection[str]:
        """Return what changed since, in words. Raises UnreachableError if xenstored hung up or talks nonsense."""
        changed = []
        for path, watched in self._client.events():
            if watched in self._new:
                self._new.discard(watched)
            else:
                changed.append(_WORDS.get(path) or path.removeprefix("/local/domain/0/"))
        return changed

    def close(self) -> None:
        """Hang up, which ends the watches."""
        self._client.close()
