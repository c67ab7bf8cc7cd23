"""Xen's own word on who has what, over a xenstore made of a dict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.adapters.xen.xenstore import Xenstore
from cede.errors import IndeterminateError, UnreachableError, WorldMovedError
from cede.model.domain import GuestKind
from cede.model.inventory import BackendDevice, LibxlNote
from cede.model.pci import Address
from sim.xenstore_nodes import Store
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cede.adapters.xen.xenstore_client import Operation

BASE = "/local/domain/0/backend/pci"
OPTIONS = "msitranslate=0,power_mgmt=0,permissive=0,rdm_policy=strict"
RECORDED = {
    "dev-0": "0000:01:00.0",
    "domain": "pv1",
    "frontend": "/local/domain/1/device/pci/0",
    "frontend-id": "1",
    "key-0": "0000:01:00.0",
    "num_devs": "1",
    "online": "1",
    "opts-0": OPTIONS,
    "root-0": "0000:00",
    "root_num": "1",
    "state": "4",
    "state-0": "3",
    "vdev-0": "0000:00:00.00",
}


def fill(store: Store, domid: int = 1, **changed: str) -> None:
    """The nodes that libxl and pciback write for one device; `vdev_0=` changes vdev-0, an empty text removes it."""
    nodes = {**RECORDED, **{name.replace("_0", "-0"): value for name, value in changed.items()}}
    for name, value in nodes.items():
        if value:
            store.nodes[f"{BASE}/{domid}/0/{name}"] = value
    store.nodes["/local/domain/1/device/pci/0/state"] = "4"
    store.nodes[f"/local/domain/{domid}/name"] = "pv1"


def backend(store: Store) -> tuple[BackendDevice, ...]:
    return store.adapter().backend()


def test_a_healthy_pv_guest_is_read_as_recorded(store: Store) -> None:
    fill(store)
    assert backend(store) == (
        BackendDevice(
            domid=1,
            address=Address(0, 1, 0, 0),
            index=0,
            state=3,
            backend_state=4,
            frontend_state=4,
            virtual_slot=Address(0, 0, 0, 0),
            options=OPTIONS,
        ),
    )


def test_a_host_that_has_given_nothing_has_no_nodes(store: Store) -> None:
    assert backend(store) == ()


def test_what_is_left_of_a_domain_that_has_ended_is_given_to_nobody(store: Store) -> None:
    fill(store, domid=1)
    fill(store, domid=2, state="6", state_0="5")
    del store.nodes["/local/domain/2/name"]
    assert [device.domid for device in backend(store)] == [1]


def test_a_backend_that_had_devices_and_has_none_gives_none(store: Store) -> None:
    fill(store, num_devs="0")
    assert backend(store) == ()


def test_domains_come_in_the_order_of_their_numbers(store: Store) -> None:
    for domid in (10, 9, 2):
        fill(store, domid)
    assert [device.domid for device in backend(store)] == [2, 9, 10]


def test_every_device_of_a_guest_is_read_and_a_hole_is_left_out(store: Store) -> None:
    fill(store, num_devs="3")
    store.nodes[f"{BASE}/1/0/dev-2"] = "0000:02:00.1"
    assert [(d.index, str(d.address)) for d in backend(store)] == [
        (0, "0000:01:00.0"),
        (2, "0000:02:00.1"),
    ]


@pytest.mark.parametrize(
    ("vdev", "vdevfn", "pv", "hvm"),
    [
        ("0000:00:00.00", "", Address(0, 0, 0, 0), None),  # at 00.0 a chipset is emulated
        ("0000:00:02.01", "", Address(0, 0, 2, 1), None),
        ("0000:00:00.00", "18", Address(0, 0, 0, 0), Address(0, 0, 3, 0)),
        ("", "19", None, Address(0, 0, 3, 1)),
        ("0000:00:01.00", "0", Address(0, 0, 1, 0), None),
        ("", "", None, None),
        ("nonsense", "nonsense", None, None),
        ("", "100", None, None),
        ("", "-8", None, None),
    ],
)
def test_the_slot_is_the_device_models_in_hvm_and_pcibacks_in_pv(
    store: Store, vdev: str, vdevfn: str, pv: Address | None, hvm: Address | None
) -> None:
    """An `xl` that asks for a slot of a PV guest's device writes vdevfn-N too, and pciback gives another one."""
    fill(store, vdev_0=vdev, vdevfn_0=vdevfn)
    given = backend(store)[0]
    assert [given.slot_in(kind) for kind in (GuestKind.PV, GuestKind.HVM)] == [pv, hvm]


def test_what_the_guest_writes_into_its_state_is_a_number_or_nothing(store: Store) -> None:
    fill(store)
    # a number of more digits than Python reads is none
    for said, read in (("1", 1), ("", None), ("four", None), ("\x1b[2J", None), ("9" * 5000, None)):
        store.nodes["/local/domain/1/device/pci/0/state"] = said
        assert backend(store)[0].frontend_state == read


def test_a_guest_without_a_frontend_node_has_no_frontend_state(store: Store) -> None:
    fill(store, frontend="")
    assert backend(store)[0].frontend_state is None


def test_nodes_that_are_no_domains_or_no_addresses_are_left_out(store: Store) -> None:
    store.nodes[f"{BASE}/rubbish/0/num_devs"] = "1"
    assert backend(store) == ()


@pytest.mark.parametrize("name", ["dev-0", "num_devs"])
def test_a_backend_that_cannot_be_read_is_never_taken_for_one_that_serves_nothing(
    store: Store, name: str
) -> None:
    fill(store)
    store.nodes[f"{BASE}/1/0/{name}"] = "many"
    with raises(IndeterminateError, "backend-unknown"):
        backend(store)


def test_a_xenstore_that_fails_is_never_taken_for_one_that_is_empty(store: Store) -> None:
    fill(store)
    store.broken = UnreachableError("no answer", name="xenstore-unreachable")
    for question in (store.adapter().backend, store.adapter().stale_notes):
        with raises(UnreachableError, "xenstore-unreachable"):
            question()


def test_libxls_notes_of_domains_that_are_gone_are_stale(store: Store) -> None:
    notes = store.adapter().stale_notes
    assert notes() == ()
    store.nodes |= {
        "/local/domain/1/name": "pv1",
        "/libxl/pci/0000-01-00-0/domid": "1",
        "/libxl/pci/0000-02-00-1/domid": "7",
        "/libxl/pci/0000-03-00-0/driver_path": "/sys/bus/pci/drivers/e1000e",
        "/libxl/pci/0000-04-00-0/domid": "",
        "/libxl/pci/nonsense/domid": "7",
    }
    assert notes() == (LibxlNote(address=Address(0, 2, 0, 1), domid=7),)


def _given_up(store: Store, index: int, number: int) -> BackendDevice:
    """One of several devices that a guest has; it was let go of too late."""
    front = "/local/domain/1/device/pci/0"
    fill(store, num_devs=str(number), dev_0="", state_0="", vdev_0="", opts_0="", key_0="")
    for n in range(number):
        address = f"0000:0{n + 1}:00.0"
        state = "5" if n == index else "3"
        said = {"dev": address, "key": address, "vdev": f"0000:00:0{n}.00", "state": state}
        store.nodes |= {f"{BASE}/1/0/{name}-{n}": value for name, value in said.items()}
        if n:  # libxl writes it for some and not for others
            store.nodes[f"{BASE}/1/0/opts-{n}"] = f"options of {n}"
    store.nodes |= {f"{front}/backend": f"{BASE}/1/0", "/libxl/1/device/pci/0/backend": "b"}
    return backend(store)[index]


def test_the_last_device_that_was_let_go_of_too_late_goes_with_both_ends(store: Store) -> None:
    given = _given_up(store, 0, 1)
    assert given.detach_given_up
    store.adapter().remove_given_up(given)
    assert store.nodes == {"/local/domain/1/name": "pv1"}


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_of_several_goes_and_those_behind_it_move_up(store: Store, index: int) -> None:
    given = _given_up(store, index, 3)
    others = [one for one in backend(store) if one.index != index]
    rest = {name: said for name, said in store.nodes.items() if "-" not in name}
    store.adapter().remove_given_up(given)
    moved = backend(store)
    assert [(o.address, o.virtual_slot, o.options, o.state) for o in moved] == [
        (o.address, o.virtual_slot, o.options, o.state) for o in others
    ]
    assert not [node for node in store.nodes if node.endswith("-2")]
    assert {n: s for n, s in store.nodes.items() if "-" not in n} == rest | {
        f"{BASE}/1/0/num_devs": "2"
    }


@pytest.mark.parametrize(
    ("node", "value"),
    [
        (f"{BASE}/1/0/state", "7"),
        ("/local/domain/1/device/pci/0/state", "7"),
        (f"{BASE}/1/0/state-0", "3"),
        (f"{BASE}/1/0/dev-0", "0000:05:00.0"),
        (f"{BASE}/1/0/num_devs", "0"),
    ],
)
def test_what_somebody_is_at_again_stays(store: Store, node: str, value: str) -> None:
    given = _given_up(store, 0, 1)
    store.nodes[node] = value
    before = dict(store.nodes)
    with raises(WorldMovedError, "backend-changed"):
        store.adapter().remove_given_up(given)
    assert store.nodes == before


VBD, QDISK, VIF = (f"/local/domain/0/backend/{kind}" for kind in ("vbd", "qdisk", "vif"))


def test_disks_and_networks_of_every_guest_are_told_whoever_started_it(store: Store) -> None:
    store.nodes |= {
        "/local/domain/7/name": "web",
        f"{VBD}/7/51712/physical-device": "fd:a",
        f"{VBD}/7/51712/params": "/dev/vg/web",
        f"{VBD}/7/51712/state": "4",
        f"{QDISK}/7/51728/params": "aio:/srv/web.img",
        f"{VBD}/8/51712/physical-device": "8:10",
        f"{VIF}/7/0/bridge": "xenbr0",
        f"{VIF}/7/0/vifname": "vif7.0",
        f"{VIF}/8/0/state": "4",
    }
    adapter = store.adapter()
    assert adapter.guest_disks() == {
        "web": ("253:10", "/dev/vg/web", "/srv/web.img"),
        "domain 8": ("8:16",),
    }
    assert adapter.guest_interfaces() == {"web": ("xenbr0", "vif7.0")}


def test_what_a_closed_backend_had_is_no_disk_nor_is_what_names_none(store: Store) -> None:
    store.nodes |= {
        f"{VBD}/7/51712/physical-device": "8:10",
        f"{VBD}/7/51712/state": "6",
        f"{VBD}/8/51712/physical-device": "no:number",
        f"{VBD}/8/51712/params": "nbd:host:port",
        f"{VBD}/x/51712/params": "/dev/sda",
    }
    assert (store.adapter().guest_disks(), store.adapter().guest_interfaces()) == ({}, {})


BACKENDS = "/local/domain/0/backend"


def test_whatever_else_a_backend_names_of_dom0s_devices_is_told_by_guest(store: Store) -> None:
    store.nodes |= {
        "/local/domain/7/name": "web",
        f"{BACKENDS}/vusb/7/0/state": "4",
        f"{BACKENDS}/vusb/7/0/frontend": "/local/domain/7/device/vusb/0",
        f"{BACKENDS}/vusb/7/0/num-ports": "8",
        f"{BACKENDS}/vusb/7/0/port/1": "1-2.3",
        f"{BACKENDS}/vusb/7/0/port/2": "",
        f"{BACKENDS}/qusb/7/1/port/1": "3-1",
        f"{BACKENDS}/vscsi/8/0/vscsi-devs/dev-0/p-dev": "3:0:0:0",
        f"{BACKENDS}/vscsi/8/0/vscsi-devs/dev-0/p-devname": "sdb",
        f"{BACKENDS}/vscsi/8/0/vscsi-devs/dev-0/v-dev": "x",
        f"{BACKENDS}/vother/8/0/physical-device": "8:10",
        f"{BACKENDS}/vother/8/0/card": "0000:01:00.0",
        f"{BACKENDS}/vkbd/8/0/unique-id": "/dev/input/event3",
        f"{BACKENDS}/console/8/0/path": "/dev/pts/3",
        f"{BACKENDS}/pci/8/0/dev-0": "0000:05:00.0",
    }
    assert store.adapter().guest_devices() == {
        "web": ("usb:3-1", "usb:1-2.3"),
        "domain 8": ("/dev/input/event3", "pci:0000:01:00.0", "8:16", "scsi:3:0:0:0", "/dev/sdb"),
    }


def test_a_closed_backend_has_no_device_any_more(store: Store) -> None:
    store.nodes |= {f"{BACKENDS}/vusb/7/0/state": "6", f"{BACKENDS}/vusb/7/0/port/1": "1-2"}
    assert store.adapter().guest_devices() == {}


def test_more_nodes_than_any_toolstack_writes_are_an_error(store: Store) -> None:
    store.nodes |= {f"{BACKENDS}/vusb/7/0/port/{number}": "" for number in range(2000)}
    with raises(IndeterminateError, "backend-unknown"):
        store.adapter().guest_devices()


class Counted(Store):
    """Counts how often it is asked, and knows each folder's names at once."""

    def __init__(self, nodes: dict[str, str]) -> None:
        super().__init__(nodes)
        self.questions = 0
        self._below: dict[str, dict[str, None]] = {}

    def ask(self, operation: Operation, paths: Sequence[str]) -> list[bytes | None]:
        self.questions += 1
        if not self._below:
            for node in self.nodes:
                *folders, name = node.split("/")
                while folders:
                    self._below.setdefault("/".join(folders), {})[name] = None
                    name = folders.pop()
        return super().ask(operation, paths)

    def _names(self, path: str) -> str | None:
        return "\0".join(self._below.get(path, ())) or None


def test_a_thousand_guests_with_a_keyboard_are_no_more_than_a_toolstack_writes() -> None:
    counted = Counted({})
    for domid in range(1, 1001):
        base = f"{BACKENDS}/vkbd/{domid}/0"
        counted.nodes |= {
            f"{base}/{name}": "1" for name in ("state", "online", "frontend-id", "x", "y", "z")
        }
        counted.nodes[f"{base}/unique-id"] = f"/dev/input/event{domid}"
    adapter = Xenstore(counted)
    assert adapter.guest_devices()["domain 1000"] == ("/dev/input/event1000",)
    assert counted.questions < 12, "of many nodes at once"


def test_a_xenstore_that_fails_is_never_taken_for_one_without_disks(store: Store) -> None:
    store.broken = UnreachableError("away")
    adapter = store.adapter()
    for ask in (adapter.guest_disks, adapter.guest_interfaces, adapter.guest_devices):
        with pytest.raises(UnreachableError):
            ask()
