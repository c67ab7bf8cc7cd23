"""One value of the whole host, of what each adapter told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from cede.errors import UnreachableError
from cede.model.pci import Address, HostUse
from cede.model.served import Served
from cede.services.observe import observe

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.in_files import SimulatedHost

NIC = Address(0, 1, 0, 0)


def test_what_dom0_needs_of_a_device_is_kept_with_it(host: SimulatedHost) -> None:
    use = HostUse(guard="swap", chain=("0000:01:00.0", "sda2", "swap"))
    asked: list[Served] = []

    def find(_find: object, _network: object, served: Served) -> object:
        asked.append(served)
        return {NIC: [use], Address(0, 9, 0, 0): [use]}

    host.instead["uses"] = find
    host.pools["usb"] = ("/dev/sdc",)
    device, other = observe(host.adapters()).devices
    assert (device.uses, other.uses) == ((use,), ())
    assert [(list(served.disks), served.pools) for served in asked] == [
        (["pv1", "pv2"], {"usb": ("/dev/sdc",)})
    ]


def test_what_dom0_has_through_a_device_is_kept_with_it(host: SimulatedHost) -> None:
    disk = host.tree.disk("sda", (host.tree.sys / "bus/pci/devices" / str(NIC)).resolve() / "ata1")
    (disk / "size").write_text("2048")
    (disk / "wwid").write_text("naa.5000c500a1b2c3d4")
    device, other = observe(host.adapters()).devices
    assert [(node.name, node.id) for node in device.nodes] == [("sda", "naa.5000c500a1b2c3d4")]
    assert other.nodes == ()


def test_sysfs_is_read_while_libvirt_prepares_its_answer(
    host: SimulatedHost,
) -> None:
    read = threading.Event()

    def answer_late(domains: Callable[[], object]) -> object:
        assert read.wait(10)
        return domains()

    def reading(devices: Callable[[], object]) -> object:
        read.set()
        return devices()

    host.instead |= {"domains": answer_late, "devices": reading}
    assert [domain.name for domain in observe(host.adapters()).domains] == ["pv1", "pv2"]


@pytest.mark.parametrize("question", ["domains", "node_devices", "storage_pools"])
def test_a_libvirt_that_doesnt_answer_is_an_error_and_not_an_empty_host(
    host: SimulatedHost, question: str
) -> None:
    host.fails[question] = [UnreachableError("away")]
    with pytest.raises(UnreachableError):
        observe(host.adapters())


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        (frozenset(), {None}),
        (frozenset({"pci_0000_ff_00_0"}), {None}),
        (frozenset({"pci_0000_01_00_0"}), {True, False}),
    ],
)
def test_a_list_of_node_devices_without_any_of_the_hosts_tells_nothing(
    host: SimulatedHost, listed: frozenset[str], known: set[bool | None]
) -> None:
    host.instead["node_devices"] = lambda _: listed
    assert {device.node_device for device in observe(host.adapters()).devices} == known


def test_a_guest_that_libvirt_does_not_know_has_its_disk_and_its_network_too(
    host: SimulatedHost,
) -> None:
    asked: list[object] = []
    host.store.nodes |= {
        "/local/domain/9/name": "by-xl",
        "/local/domain/0/backend/vbd/9/51712/params": "/dev/sdb",
        "/local/domain/0/backend/vif/9/0/bridge": "xenbr0",
        "/local/domain/0/backend/vusb/9/0/port/1": "1-2",
    }

    def find(_find: object, *about: object) -> dict[object, object]:
        asked.extend(about)
        return {}

    host.instead["uses"] = find
    observe(host.adapters())
    off: dict[str, tuple[str, ...]] = {"pv1": (), "pv2": ()}
    assert asked[1:] == [
        Served(
            disks={**off, "by-xl": ("/dev/sdb",)},
            interfaces={**off, "by-xl": ("xenbr0",)},
            devices={**off, "by-xl": ("usb:1-2",)},
        )
    ]
