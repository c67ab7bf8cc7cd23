"""What of the host's a domain or a storage pool is made of, by its XML.

Sources: https://libvirt.org/formatdomain.html, https://libvirt.org/formatstorage.html.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from cede.domain_xml.xml_text import parsed
from cede.model.pci import Address
from cede.util.text import c_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lxml import etree

_SCSI_HOST = re.compile(r"^(?:scsi_)?host(\d{1,6})$")
_WWN = re.compile(r"^[0-9a-f]{16}$")
_IDS = 0xFFFF
# elements whose attribute is the path of a device's node
_NODES = (
    ("./devices/tpm/backend/device", "path"), ("./devices/input/source", "dev"), ("./devices/input/source", "evdev"),
    *((f"./devices/{kind}[@type='dev']/source", "path") for kind in ("serial", "parallel", "console", "channel")),
)  # fmt: skip
_CAPABILITIES = "./devices/hostdev[@mode='capabilities']/source"


def disks(trees: Iterable[etree._Element]) -> tuple[str, ...]:
    """Return the block devices and files that the domains' disks are."""
    return _attributes(trees, "./devices/disk//source", "dev", "file")


def interfaces(trees: Iterable[etree._Element]) -> tuple[str, ...]:
    """Return the host's interfaces that the domains' NICs are on."""
    return _attributes(trees, "./devices/interface/source", "bridge", "dev")


def volumes(trees: Iterable[etree._Element]) -> tuple[str, ...]:
    """Return the volumes of storage pools that disks are made of, as `POOL/VOLUME`; no pool has a slash in its name."""
    found = [
        f"{source.get('pool')}/{source.get('volume')}"
        for tree in trees
        for source in tree.iterfind("./devices/disk//source[@pool][@volume]")
    ]
    return tuple(dict.fromkeys(found))


def devices(trees: Iterable[etree._Element]) -> tuple[str, ...]:
    """Return the host's devices that the domains have besides disks and PCI devices, as `model/served.py` has them."""
    found: dict[str, None] = {}
    for tree in trees:
        for path, name in _NODES:
            found.update(dict.fromkeys(_attributes([tree], path, name)))
        for kind in ("block", "char"):
            for element in tree.iterfind(f"{_CAPABILITIES}/{kind}"):
                found.update(dict.fromkeys([element.text or ""]))
        for source in tree.iterfind("./devices/hostdev[@type='usb']/source"):
            found.update(dict.fromkeys(_usb(source)))
        for source in tree.iterfind("./devices/hostdev[@type='scsi']/source"):
            found.update(dict.fromkeys(_scsi(source)))
    found.pop("", None)
    return tuple(found)


def _usb(source: etree._Element) -> Iterator[str]:
    """Yield a USB device by its place, else by its kind; libvirt looks for either."""
    address = source.find("./address")
    bus, device = _numbers(address, "bus", "device")
    if bus is not None and device is not None:
        yield f"usb:{bus}.{device}"
        return
    ids = [_numbers(source.find(f"./{name}"), "id")[0] for name in ("vendor", "product")]
    if None not in ids:
        yield "usb:" + ":".join(f"{number:04x}" for number in ids)


def _scsi(source: etree._Element) -> Iterator[str]:
    """Yield a SCSI device of a host adapter; one of an iSCSI server lies behind none."""
    adapter = source.find("./adapter")
    host = _SCSI_HOST.match(adapter.get("name", "")) if adapter is not None else None
    place = _numbers(source.find("./address"), "bus", "target", "unit")
    if host is not None and None not in place:
        yield f"scsi:{host[1]}:" + ":".join(map(str, place))


def _numbers(element: etree._Element | None, *names: str) -> list[int | None]:
    said = [None if element is None else element.get(name) for name in names]
    found = [None if text is None else c_number(text) for text in said]
    return [number if number is not None and 0 <= number <= _IDS else None for number in found]


def pool_paths(pool_xml: str) -> tuple[str, ...]:
    """Return the devices and the folder that a storage pool is made of. Raises PermanentError if it is malformed."""
    pool = parsed(pool_xml)
    return (*_attributes([pool], "./source/device", "path"), *_text(pool, "./target/path"))


def pool_devices(pool_xml: str) -> tuple[str, tuple[str, ...]]:
    """Return a storage pool's name, and the devices that it is made of, as `model/served.py` has them.

    A folder's devices are those of its file system, and what a server has is reached over a network: both are uses by
    themselves. Raises PermanentError if the XML is malformed.
    """
    pool = parsed(pool_xml)
    paths = _attributes([pool], "./source/device", "path")
    adapters = [name for one in pool.iterfind("./source/adapter") for name in _adapter(one)]
    name = next(iter(_text(pool, "./name")), "")
    return name, (*(path for path in paths if path.startswith("/dev/")), *adapters)


def _adapter(adapter: etree._Element) -> Iterator[str]:
    """Yield the adapter of a pool of type scsi by all that libvirt finds it by."""
    for name in ("name", "parent"):
        host = _SCSI_HOST.match(adapter.get(name, ""))
        if host is not None:
            yield f"scsi_host:{host[1]}"
    wwpn = adapter.get("wwpn", "").lower().removeprefix("0x")
    if _WWN.match(wwpn):
        yield f"fc:{wwpn}"
    place = _numbers(adapter.find("./parentaddr/address"), "domain", "bus", "slot", "function")
    known = [number for number in place if number is not None]
    if len(known) == len(place):
        with suppress(ValueError):  # no device has such an address
            yield f"pci:{Address(*known)}"


def _text(tree: etree._Element, path: str) -> tuple[str, ...]:
    said = (tree.findtext(path) or "").strip()
    return (said,) if said else ()


def _attributes(trees: Iterable[etree._Element], path: str, *names: str) -> tuple[str, ...]:
    """Return the attributes of all elements at the path, each once."""
    found = (
        element.get(name) for tree in trees for element in tree.iterfind(path) for name in names
    )
    return tuple(dict.fromkeys(value for value in found if value))
