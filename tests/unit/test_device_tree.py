"""The tree of a host's devices: each is drawn once, below its bridge, whatever a host says of what is above what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cede.commands.device_tree import device_tree
from cede.model.pci import Address, Device, Identity

_BRIDGE = Identity(vendor="8086", device="3420", class_code="060400")
_PLACES = [Address(segment, bus, 0, 0) for segment in (0, 0x10000) for bus in range(5)]


def device(at: Address, above: Address | None = None, root: str = "pci0000:00") -> Device:
    return Device(address=at, identity=_BRIDGE, parent=above, path=f"{root}/00.0")


def drawn(*devices: Device) -> list[str]:
    return [line for line, _ in device_tree(devices)]


def test_what_is_behind_a_bridge_is_below_it_and_the_last_one_closes_its_branch() -> None:
    port, switch, first, second = (Address(0, bus, 0, 0) for bus in range(4))
    other = Address(0, 0x80, 5, 0)
    assert drawn(
        device(other, root="pci0000:80"),
        device(second, switch),
        device(port),
        device(first, switch),
        device(switch, port),
    ) == [
        "pci0000:00",
        f"\\- {port}",
        f"   \\- {switch}",
        f"      +- {first}",
        f"      \\- {second}",
        "pci0000:80",
        f"\\- {other}",
    ]


def test_a_device_whose_bridge_is_not_there_is_on_its_root_bus() -> None:
    assert drawn(device(_PLACES[1], _PLACES[0])) == ["pci0000:00", f"\\- {_PLACES[1]}"]


@given(st.dictionaries(st.sampled_from(_PLACES), st.none() | st.sampled_from(_PLACES)))
def test_every_device_is_drawn_once_whatever_is_said_to_be_above_it(
    above: dict[Address, Address | None],
) -> None:
    """Also rings of bridges, and a device above itself."""
    lines = list(device_tree([device(at, bridge) for at, bridge in above.items()]))
    assert sorted(address for _, address in lines if address) == sorted(above)
    assert all(str(address) in line for line, address in lines if address)
