"""The devices of a host drawn as a tree: root buses, ports and bridges, and what is below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cede.model.pci import Address, Device

_MORE, _LAST, _PAST, _OPEN = "+- ", "\\- ", "|  ", "   "


def device_tree(devices: Sequence[Device]) -> Iterator[tuple[str, Address | None]]:
    """Yield each line of the tree, drawn as far as the address, and the address; None for a root bus.

    A device whose bridge is not among the `devices`, or whose bridges form a ring, is on its root bus.
    """
    here = {device.address: device for device in devices}
    below: dict[Address, list[Address]] = {}
    roots: dict[str, list[Address]] = {}
    for device in sorted(devices, key=lambda one: one.address):
        parent = device.parent
        if parent is None or parent not in here or not _has_a_root(device, here):
            roots.setdefault(_root_bus(device), []).append(device.address)
        else:
            below.setdefault(parent, []).append(device.address)
    for bus, addresses in sorted(roots.items()):
        yield bus, None
        yield from _drawn(addresses, below, "")


def _drawn(
    addresses: Sequence[Address], below: dict[Address, list[Address]], margin: str
) -> Iterator[tuple[str, Address | None]]:
    for address in addresses:
        last = address == addresses[-1]
        yield f"{margin}{_LAST if last else _MORE}{address}", address
        yield from _drawn(below.get(address, ()), below, margin + (_OPEN if last else _PAST))


def _has_a_root(device: Device, here: dict[Address, Device]) -> bool:
    seen: set[Address] = set()
    above: Device | None = device
    while above is not None:
        if above.address in seen:
            return False
        seen.add(above.address)
        above = here.get(above.parent) if above.parent else None
    return True


def _root_bus(device: Device) -> str:
    root, _, _ = device.path.partition("/")
    return root or f"pci{device.address.segment:04x}"
