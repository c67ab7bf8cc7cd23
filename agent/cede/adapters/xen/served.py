"""What dom0's backends serve to guests by xenstore's word: disks, networks, and whatever else names a device of dom0's.

Sources: xen/docs/misc/xenstore-paths.pandoc, xen/include/public/io/usbif.h, tools/libs/light/libxl_usb.c (`port/N` is a
USB device by its port), drivers/xen/xen-scsiback.c and xen/include/public/io/vscsiif.h (`vscsi-devs/dev-N/p-dev`),
drivers/block/xen-blkback/xenbus.c (backend_changed), tools/libs/light/libxl_disk.c.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from cede.errors import IndeterminateError
from cede.util.text import number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_DOMAINS = "/local/domain"
_BACKENDS = f"{_DOMAINS}/0/backend"
_DISKS, _NICS = ("vbd", "vbd3", "qdisk", "tap", "virtio_disk"), ("vif", "vif2")
_OF_DISK, _OF_NIC = ("state", "physical-device", "params"), ("state", "bridge", "vifname")
# these name no device of dom0's, or are asked for elsewhere
_OTHERS = frozenset({*_DISKS, *_NICS, "pci", "console", "vfb"})
_CLOSED = "6"
_MAJOR_AND_MINOR = 2
_DEPTH, _MAX_NODES = 3, 1024  # of each device
_SHAPES = (
    (re.compile(r"\d{1,4}-\d{1,4}(?:\.\d{1,4})*"), "usb:"),
    (re.compile(r"\d{1,6}:\d{1,6}:\d{1,6}:\d{1,20}"), "scsi:"),
    (re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"), "pci:"),
    (re.compile(r"/dev/[^\0]{1,4096}"), ""),
)
_NAME_OF_DISK = "p-devname"

_ByGuest = dict[str, tuple[str, ...]]


class Questions(NamedTuple):
    """How xenstore is asked for many nodes at once: for what stands in them, and for the names below them."""

    read: Callable[..., list[str | None]]
    names: Callable[..., list[list[str]]]


class _Device(NamedTuple):
    domid: str
    folder: str


def disks(ask: Questions) -> _ByGuest:
    """Return the disks, each by its number `8:1` or its path."""
    return _served(ask, _DISKS, _OF_DISK, _disk)


def interfaces(ask: Questions) -> _ByGuest:
    """Return bridges and the interfaces on them."""
    return _served(ask, _NICS, _OF_NIC, lambda nodes: [name for name in nodes if name])


def devices(ask: Questions) -> _ByGuest:
    """Return what backends of any other kind name of dom0's devices, as `model/served.py::Served` writes them.

    Raises IndeterminateError if a device has more nodes than any toolstack writes.
    """
    (kinds,) = ask.names(_BACKENDS)
    served = _devices(ask, [kind for kind in kinds if kind and kind not in _OTHERS])
    states = ask.read(*(f"{device.folder}/state" for device in served))
    served = [one for one, state in zip(served, states, strict=True) if state != _CLOSED]
    named = [
        (device.domid, found)
        for device, path, value in _nodes(ask, served)
        for found in _named(path.rpartition("/")[2], value)
    ]
    return _by_guest(ask, named)


def _nodes(ask: Questions, served: Sequence[_Device]) -> Iterator[tuple[_Device, str, str]]:
    """Yield the nodes of each device that have a value; those without one are folders of others."""
    folders = [(device, device.folder) for device in served]
    counts: dict[_Device, int] = {}
    for _ in range(_DEPTH):
        listed = zip(folders, ask.names(*(path for _, path in folders)), strict=True)
        below = [(device, f"{path}/{name}") for (device, path), names in listed for name in names]
        for device, path in below:
            counts[device] = counts.get(device, 0) + 1
            if counts[device] > _MAX_NODES:
                raise _too_many(path)
        values = ask.read(*(path for _, path in below))
        folders = []
        for (device, path), value in zip(below, values, strict=True):
            if value:
                yield device, path, value
            else:
                folders.append((device, path))


def _too_many(path: str) -> IndeterminateError:
    return IndeterminateError(
        f"xenstore has more than {_MAX_NODES} nodes of one backend, at {path}, so which devices of dom0's guests use "
        "can't be read",
        name="backend-unknown",
        remedy=f"see `xenstore-ls {_BACKENDS}`, and who wrote there",
    )


def _named(node: str, value: str) -> Iterator[str]:
    if node == "physical-device":
        yield from _disk((value, None))
    elif node == _NAME_OF_DISK and "/" not in value and value:
        yield f"/dev/{value}"
    else:
        yield from (f"{kind}{value}" for shape, kind in _SHAPES if shape.fullmatch(value))


def _devices(ask: Questions, kinds: Sequence[str]) -> list[_Device]:
    bases = [f"{_BACKENDS}/{kind}" for kind in kinds]
    guests = [
        (domid, f"{base}/{domid}")
        for base, domids in zip(bases, ask.names(*bases), strict=True)
        for domid in domids
        if domid.isdecimal()
    ]
    listed = zip(guests, ask.names(*(folder for _, folder in guests)), strict=True)
    return [
        _Device(domid, f"{folder}/{name}") for (domid, folder), names in listed for name in names
    ]


def _served(
    ask: Questions,
    kinds: Sequence[str],
    nodes: Sequence[str],
    read_nodes: Callable[[Sequence[str | None]], list[str]],
) -> _ByGuest:
    """What `read_nodes` makes of the nodes of each backend that isn't closed; the first node is its state."""
    served = _devices(ask, kinds)
    said = ask.read(*(f"{device.folder}/{node}" for device in served for node in nodes))
    named = []
    for index, device in enumerate(served):
        state, *rest = said[index * len(nodes) :][: len(nodes)]
        if state != _CLOSED:
            named += [(device.domid, found) for found in read_nodes(rest)]
    return _by_guest(ask, named)


def _by_guest(ask: Questions, named: Sequence[tuple[str, str]]) -> _ByGuest:
    """What was found by the number of its guest, by the guest's name."""
    ids = list(dict.fromkeys(domid for domid, _ in named))
    said = ask.read(*(f"{_DOMAINS}/{domid}/name" for domid in ids))
    names = {domid: name or f"domain {domid}" for domid, name in zip(ids, said, strict=True)}
    found: dict[str, dict[str, None]] = {}
    for domid, value in named:
        found.setdefault(names[domid], {})[value] = None
    return {name: tuple(values) for name, values in found.items()}


def _disk(nodes: Sequence[str | None]) -> list[str]:
    """A disk as blkback and libxl write it: `physical-device` is hexadecimal, `params` may begin with a driver."""
    device, params = nodes
    found = []
    parts = [number(part, base=16) for part in (device or "").split(":")]
    if len(parts) == _MAJOR_AND_MINOR and None not in parts:
        found.append("{}:{}".format(*parts))
    if params and "/" in params:
        found.append(params if params.startswith("/") else f"/{params.partition('/')[2]}")
    return found
