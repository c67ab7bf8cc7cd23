"""The names of libvirt's node devices, while devices come."""

from __future__ import annotations

from itertools import chain, repeat

import pytest

from cede.adapters.libvirt.connection import Libvirt

NIC, DISK = "pci_0000_01_00_0", "pci_0000_02_00_0"


class Connection:
    """A libvirt that lists `lists`, one after the other, and counts the devices of the last one."""

    def __init__(self, *lists: list[str]) -> None:
        self._lists = chain(lists, repeat(lists[-1]))
        self._number = len(lists[-1])

    def isAlive(self) -> bool:  # noqa: N802 - libvirt's name
        return True

    def listDevices(self, capability: str) -> list[str]:  # noqa: N802 - libvirt's name
        assert capability == "pci"
        return next(self._lists)

    def numOfDevices(self, capability: str) -> int:  # noqa: N802 - libvirt's name
        assert capability == "pci"
        return self._number


@pytest.mark.parametrize(
    "lists", [([],), ([NIC],), ([NIC], [NIC, DISK]), ([NIC, DISK], [NIC])], ids=str
)
def test_no_device_is_missing_because_another_one_came_while_they_were_listed(
    monkeypatch: pytest.MonkeyPatch, lists: tuple[list[str], ...]
) -> None:
    monkeypatch.setattr(Libvirt, "_open", lambda _self: Connection(*lists))
    assert Libvirt("xen:///system").node_devices() >= frozenset(lists[-1])
