"""Which channel a guest is asked through, from policy and command line to the guest, and what is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cede.domain_xml import document
from cede.errors import WorldMovedError
from cede.model.domain import Domain, GuestKind
from cede.model.inventory import Inventory
from cede.model.pci import Address, Device, Identity
from cede.model.policy import Assignment, Channel, Place, Policy, Verification
from cede.services import one_off
from cede.services.one_off import AttachRequest
from cede.verifier.checklist import CheckStatus, Witness
from cede.verifier.verify import verify
from unit.raises import raises
from unit.test_config_space import space

if TYPE_CHECKING:
    from cede.verifier.checklist import CheckResult
    from sim.in_files import SimulatedHost
    from sim.xenstore_nodes import Store

NIC = Address.parse("0000:01:00.0")
DATA = "/local/domain/1/data"
UUID = "00000000-0000-0000-0000-000000000000"
HERE = Place(file="policy.yaml", line=1, column=1)
SSH = Verification(guest=Channel.SSH, host="10.0.0.2", user="admin")
INVENTORY = Inventory(
    devices=(Device(address=NIC, identity=Identity(vendor="8086", device="10d3")),),
    domains=(Domain(name="pv1", uuid=UUID, kind=GuestKind.PV),),
)


def chosen(domain: str, channel: Channel | None, *said: Assignment) -> Verification:
    policy = one_off.policy_of(
        Policy(assignments=said),
        AttachRequest(device=str(NIC), domain=domain, channel=channel),
        INVENTORY,
    )
    return policy.assignments[0].verification


def said(domain: str, how: Verification) -> Assignment:
    return Assignment(device="nic0", domain=domain, verification=how, place=HERE)


@pytest.mark.parametrize("named", ["pv1", UUID])
@pytest.mark.parametrize("asked", ["pv1", UUID])
def test_a_one_off_asks_the_guest_as_the_policy_says_for_it(named: str, asked: str) -> None:
    others = said("pv2", Verification(guest=Channel.NONE))
    assert chosen(asked, None, others, said(named, SSH)) == SSH
    assert chosen(asked, Channel.SSH, others, said(named, SSH)) == SSH


def test_a_one_off_without_a_word_in_the_policy_asks_on_the_console() -> None:
    assert chosen("pv1", None) == Verification()
    assert chosen("pv1", Channel.XENSTORE, said("pv1", SSH)) == Verification(guest=Channel.XENSTORE)
    assert chosen("pv1", Channel.SSH) == Verification(guest=Channel.SSH, host="pv1")


def test_where_nobody_is_asked_the_status_says_not_verified(host: SimulatedHost) -> None:
    found = verified(host, Verification(guest=Channel.NONE))
    assert found.status is CheckStatus.INFO


def verified(host: SimulatedHost, how: Verification) -> CheckResult:
    """The last finding on the card, which pv1 has as far as dom0 can tell."""
    host.kernel.load_pciback()
    host.libvirt.bind_to_pciback(NIC)
    assert host.adapters().hypervisor.in_guest(NIC) is False
    host.libvirt.plug("pv1", NIC, "ua-cede-nic0", permissive=False)
    host.libvirt.redefine("pv1", lambda config: document.with_hostdev(config, NIC, "ua-cede-nic0"))
    domain = host.libvirt.domain("pv1")
    assert domain is not None
    return verify(host.adapters(), NIC, domain, how, timeout=0.0)[-1]


@pytest.mark.parametrize(
    ("control", "decision"), [(0x8004, CheckStatus.PASSED), (0x4, CheckStatus.UNVERIFIED)]
)
def test_a_device_is_asked_itself_without_a_word_to_the_guest(
    host: SimulatedHost, control: int, decision: CheckStatus
) -> None:
    config = host.tree.sys / f"bus/pci/devices/{NIC}/config"
    config.write_bytes(space(0x6, (0x11, control)))
    found = verified(host, Verification(guest=Channel.DEVICE))
    assert (found.witness, found.status) == (Witness.DEVICE, decision), found
    assert "console pv1" not in host.journal


def test_a_guest_without_a_helper_is_not_verified_and_nothing_is_left_in_xenstore(
    host: SimulatedHost,
) -> None:
    host.store.nodes["/local/domain/1/name"] = "pv1"
    found = verified(host, Verification(guest=Channel.XENSTORE))
    assert (found.source, found.status) == ("guest", CheckStatus.UNVERIFIED)
    assert "cede-guest" in found.found
    assert not any(node.startswith(DATA) for node in host.store.nodes)


def test_a_password_file_that_others_may_read_is_reported_with_its_remedy(
    host: SimulatedHost, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    path.write_text("lab\n")
    path.chmod(0o644)
    found = verified(host, Verification(user="root", password_file=str(path)))
    assert found.status is CheckStatus.UNVERIFIED
    assert found.found.endswith(f"; chmod 600 {path}")
    assert "console pv1" not in host.journal


def test_a_data_node_is_written_read_and_removed_with_all_below_it(store: Store) -> None:
    adapter = store.adapter()
    store.nodes["/local/domain/1/name"] = "pv1"
    assert adapter.read_data(1, "cede/request") is None
    adapter.write_data(1, "cede/request", b"x")
    store.nodes[f"{DATA}/cede/answer/1"] = "y"
    assert (adapter.read_data(1, "cede/request"), adapter.read_data(1, "cede/answer/1")) == (
        b"x",
        b"y",
    )
    adapter.remove_data(1, "cede")
    adapter.remove_data(1, "cede")
    assert list(store.nodes) == ["/local/domain/1/name"]


def test_no_room_is_made_for_a_guest_that_has_ended(store: Store) -> None:
    with raises(WorldMovedError, "domain-ended", "domain 7"):
        store.adapter().write_data(7, "cede/request", b"x")
    assert store.nodes == {}
