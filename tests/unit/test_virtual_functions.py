"""Virtual functions from the policy to the card, on the simulated host: made, set up, given, kept right, taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cede.adapters.linux.network_answers import functions_of
from cede.adapters.linux.network_links import Links
from cede.adapters.linux.sysfs import Sysfs
from cede.commands import output
from cede.commands.devices import details
from cede.errors import PermanentError, PolicyError
from cede.model.actions import ConfigureVirtualFunction
from cede.model.network import Interface
from cede.model.pci import PCIBACK, Address, Names
from cede.model.virtual_functions import (
    NO_MAC,
    FunctionSettings,
    LinkState,
    counted_up,
    derived_mac,
    is_station,
)
from cede.policy import policy_files
from cede.policy.policy_files import NO_POLICY
from cede.services.boot import bind
from cede.services.describe_devices import describe_device
from cede.services.observe import observe
from cede.services.reconcile import RequestContext, carry_out_pass, replan
from cede.services.verification import status
from cede.state.journal import Requester
from unit.decisions import decisions
from unit.raises import raises

if TYPE_CHECKING:
    from cede.adapters.ports import Adapters
    from cede.services.pass_report import Report
    from sim.in_files import SimulatedHost
    from sim.sys_tree import SysTree

NIC, FIRST, SECOND = (Address.parse(at) for at in ("0a:00.0", "0a:10.0", "0a:10.2"))
PORT = "enp10s0"
SUBJECT, ASSIGNED = "nic: virtual functions", "vf0 -> pv1"
MACS = ("52:54:00:aa:00:01", "52:54:00:aa:00:02")


VF = """\
  vf0: {match: {physical_function: nic, function: 0}}
assignments: [{device: vf0, domain: pv1, verify: {guest: none}}]"""


def policy(functions: str, *, assigned: bool = True) -> Any:  # noqa: ANN401 - a policy
    return policy_files.parse(
        f"""
version: 1
devices:
  nic: {{match: {{address: "{NIC}"}}, virtual_functions: {functions}}}
{VF if assigned else "assignments: []"}
""",
        "policy.yaml",
    )


TWO = policy(f'{{count: 2, mac: ["{MACS[0]}", "{MACS[1]}"], vlan: 7, trust: true}}')


@pytest.fixture
def card(host: SimulatedHost) -> SimulatedHost:
    host.physical(str(NIC), PORT)
    return host


def apply(host: SimulatedHost, wanted: Any) -> Report:  # noqa: ANN401 - a policy
    adapters: Adapters = host.adapters()
    targets, planned = replan(adapters, wanted)
    return carry_out_pass(adapters, targets, planned, RequestContext())


def said(host: SimulatedHost, wanted: Any) -> dict[str, Any]:  # noqa: ANN401 - a policy
    return decisions(replan(host.adapters(), wanted)[1])


def test_one_pass_makes_them_sets_them_up_and_gives_one_away(card: SimulatedHost) -> None:
    done = apply(card, TWO)
    assert [one.kind for one in done.statuses] == [None, None]
    assert card.functions[PORT] == [
        FunctionSettings(mac=mac, vlan=7, spoof_check=True, trust=True, rate=0) for mac in MACS
    ]
    assert card.virtual_of(NIC) == (FIRST, SECOND)
    assert (card.cards[FIRST].driver, card.cards[SECOND].driver) == (PCIBACK, None)
    assert card.backend == {FIRST: card.guests["pv1"].domid}
    assert said(card, TWO) == {
        SUBJECT: {"satisfied": "virtual-functions-set-up"},
        ASSIGNED: {"satisfied": "in-place"},
    }


def test_what_somebody_changed_is_put_right_and_nothing_else(card: SimulatedHost) -> None:
    apply(card, TWO)
    card.functions[PORT][0] = FunctionSettings(mac=NO_MAC, vlan=9, trust=True)
    done = apply(card, TWO)
    assert [len(one.tried) for one in done.outcomes] == [1]
    assert card.functions[PORT][0].said == {"mac": MACS[0], "vlan": 7, "trust": True}


def test_an_interface_that_is_switched_off_is_switched_on(card: SimulatedHost) -> None:
    card.off.add(PORT)
    apply(card, TWO)
    assert card.off == set()
    card.off.add(PORT)
    done = apply(card, TWO)
    assert [type(one) for one in done.outcomes[0].change.actions] == [ConfigureVirtualFunction] * 2
    assert card.off == set()


def test_their_number_stays_while_one_is_in_a_guest(card: SimulatedHost) -> None:
    apply(card, TWO)
    four = policy("{count: 4}")
    done = apply(card, four)
    assert card.virtual_of(NIC) == (FIRST, SECOND)
    assert decisions(done.plan)[ASSIGNED] == {"satisfied": "in-place"}


def test_they_go_once_the_policy_wants_none_and_the_guest_has_none(card: SimulatedHost) -> None:
    apply(card, TWO)
    done = apply(card, policy("{count: 0}", assigned=False))
    assert card.virtual_of(NIC) == ()
    assert {one.kind for one in done.statuses} == {None}
    assert card.adapters().sysfs.virtual_functions(NIC) is not None
    assert (card.paths.sys / f"bus/pci/devices/{NIC}/sriov_drivers_autoprobe").read_text() == "1\n"


def test_one_that_is_used_between_plan_and_action_keeps_their_number(card: SimulatedHost) -> None:
    card.make_virtual(NIC, 1, probed=False)
    adapters = card.adapters()
    targets, planned = replan(adapters, TWO)
    card.cards[FIRST].driver = PCIBACK
    done = carry_out_pass(adapters, targets, planned, RequestContext())
    error = done.outcomes[0].error
    assert error is not None
    assert (error.name, card.virtual_of(NIC)) == ("virtual-functions-in-use", (FIRST,))


def test_what_the_driver_cannot_do_is_an_error_and_nothing_is_given_away(
    card: SimulatedHost,
) -> None:
    card.unsupported.add("trust")
    done = apply(card, TWO)
    assert done.outcomes[0].error is not None
    assert (card.virtual_of(NIC), card.backend) == ((), {})


def test_one_that_could_not_be_set_up_again_is_not_given_away(card: SimulatedHost) -> None:
    card.make_virtual(NIC, 2, probed=False)
    card.unsupported.add("vlan")
    done = apply(card, TWO)
    names = [one.error.name for one in done.outcomes if one.error is not None]
    assert (names[1:], card.backend) == (["virtual-functions-not-set-up"], {})


def test_they_come_at_boot_and_one_is_bound_before_its_guest_starts(card: SimulatedHost) -> None:
    adapters = card.adapters(offline=True)
    card.tree.route("enp0s2")
    done = bind(adapters, TWO, RequestContext(), wait=1.0, limit=10.0)
    assert card.virtual_of(NIC) == (FIRST, SECOND)
    assert [one.mac for one in card.functions[PORT]] == list(MACS)
    assert done.outcomes[0].error is None


def test_without_a_mac_in_the_policy_each_gets_one_of_its_own(card: SimulatedHost) -> None:
    apply(card, policy("{count: 7}"))
    macs = [one.mac for one in card.functions[PORT]]
    assert len(set(macs)) == 7
    assert macs == [derived_mac("this host", str(NIC), index) for index in range(7)]


@given(seed=st.text(max_size=70), index=st.integers(min_value=0, max_value=65535))
def test_a_derived_mac_is_local_and_of_one_station(seed: str, index: int) -> None:
    mac = derived_mac(seed, "0000:0a:00.0", index)
    assert is_station(mac)
    assert int(mac[:2], 16) & 2
    assert mac == derived_mac(seed, "0000:0a:00.0", index)
    assert mac != derived_mac(seed + "x", "0000:0a:00.0", index)


def test_macs_are_counted_up_below_the_vendor() -> None:
    assert counted_up("52:54:00:aa:00:ff", 1) == "52:54:00:aa:01:00"
    assert counted_up("52:54:00:ff:ff:ff", 1) is None


# -- the adapters


def test_what_ip_prints_of_each_is_read() -> None:
    shown = {
        "vfinfo_list": [
            {
                "vf": 1, "link_type": "ether", "address": "00:00:00:00:00:00", "vlan_list": [{}],
                "rate": {"max_tx": 0, "min_tx": 0}, "spoofchk": True, "link_state": "auto", "trust": False,
            },
            {
                "vf": 0, "address": "52:54:00:aa:00:01", "vlan_list": [{"vlan": 7}],
                "rate": {"max_tx": 100, "min_tx": 0}, "spoofchk": False, "link_state": "disable",
            },
        ]
    }  # fmt: skip
    assert functions_of(shown) == (
        FunctionSettings(
            mac=MACS[0], vlan=7, spoof_check=False, rate=100, link_state=LinkState.DISABLE
        ),
        FunctionSettings(
            mac=NO_MAC, vlan=0, spoof_check=True, trust=False, rate=0, link_state=LinkState.AUTO
        ),
    )


def test_of_a_list_with_gaps_nothing_is_known() -> None:
    assert functions_of({"vfinfo_list": [{"vf": 1, "address": MACS[0]}]}) == ()


def test_each_setting_is_set_on_its_own_and_named_if_the_driver_refuses_it() -> None:
    ran = []

    def run(*command: str, stdin: str = "") -> str:  # noqa: ARG001 - as process.run
        ran.append(" ".join(command[5:]))
        if "state" in command:
            raise PermanentError("RTNETLINK answers: Operation not supported")
        return ""

    settings = FunctionSettings(
        mac=MACS[0], vlan=0, spoof_check=False, trust=True, rate=5, link_state=LinkState.ENABLE
    )
    with raises(PermanentError, "function-setting-refused", "state enable"):
        Links(run).set_up_function(PORT, 3, settings)
    assert ran == [
        "vf 3 trust on",
        f"vf 3 mac {MACS[0]}",
        "vf 3 vlan 0",
        "vf 3 spoofchk off",
        "vf 3 max_tx_rate 5",
        "vf 3 state enable",
    ]


def test_another_number_is_reached_by_way_of_none(tree: SysTree) -> None:
    path = tree.function(str(NIC), driver="igb")
    tree.sriov(str(NIC), 7)
    sysfs = Sysfs(tree.sys)
    sysfs.set_virtual_functions(NIC, 2, probed=False)
    assert (path / "sriov_numvfs").read_text() == "2"
    assert (path / "sriov_drivers_autoprobe").read_text() == "0"
    found = sysfs.virtual_functions(NIC)
    assert found is not None
    assert (found.total, found.count, found.probed) == (7, 2, False)
    device = sysfs.device(NIC)
    assert device is not None
    assert device.virtual_functions == found


def test_a_function_without_sr_iov_has_none(tree: SysTree) -> None:
    tree.function(str(NIC))
    assert Sysfs(tree.sys).virtual_functions(NIC) is None


# -- what a policy can't say


HEAD = 'version: 1\ndevices:\n  nic: {match: {address: "0000:0a:00.0"}, virtual_functions: {count: 2}}\n'


@pytest.mark.parametrize(
    ("rest", "name", "place"),
    [
        ("  vf: {match: {physical_function: nic, function: 2}}\n", "no-such-function", "4:50"),
        (
            '  vf: {match: {physical_function: "0a:00.0", function: 9}}\n',
            "no-such-function",
            "4:56",
        ),
        ("  vf: {match: {physical_function: nic}}\n", "half-pair", "4:16"),
        ("assignments: [{device: nic, domain: pv1}]\n", "physical-and-virtual", "4:24"),
    ],
)
def test_what_cannot_be_of_several_devices_is_an_error_with_its_place(
    rest: str, name: str, place: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        policy_files.parse(HEAD + rest, "policy.yaml")
    (found,) = caught.value.diagnostics
    assert (found.name, found.place) == (name, f"policy.yaml:{place}")


def test_a_mac_of_two_cards_is_refused() -> None:
    other = HEAD.replace("count: 2", f'count: 1, mac: ["{MACS[0]}"]')
    twin = (
        f'  lan: {{match: {{vendor: "8086"}}, virtual_functions: {{count: 1, mac: "{MACS[0]}"}}}}\n'
    )
    with raises(PolicyError, "wrong-policy", MACS[0]) as caught:
        policy_files.parse(other + twin, "policy.yaml")
    assert [one.name for one in caught.value.diagnostics] == ["mac-twice"]


def test_any_virtual_function_of_a_named_card_will_do(card: SimulatedHost) -> None:
    wanted = policy_files.parse(
        HEAD + "  vf: {match: {physical_function: nic, any: true}}\n"
        "assignments: [{device: vf, domain: pv2, verify: {guest: none}}]\n",
        "policy.yaml",
    )
    apply(card, wanted)
    assert card.backend == {FIRST: card.guests["pv2"].domid}


def test_what_somebody_changed_is_out_of_sync_and_said(
    card: SimulatedHost, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(card, TWO)
    card.functions[PORT][1] = FunctionSettings(mac=NO_MAC)
    adapters = card.adapters()
    output.status(status(adapters, *replan(adapters, TWO)), ())
    assert f"{SUBJECT}: OUT OF SYNC" in capsys.readouterr().out


def test_a_card_shows_what_it_has(card: SimulatedHost, capsys: pytest.CaptureFixture[str]) -> None:
    apply(card, TWO)
    seen = observe(card.adapters())
    (found,) = (one for one in seen.devices if one.address == NIC)
    details([describe_device(found, seen, TWO, Names())], ())
    shown = capsys.readouterr().out
    assert "2 of 7 virtual functions" in shown
    assert f"VF 1      {card.functions[PORT][1]}" in shown


def test_what_was_interrupted_is_looked_at_anew_and_nothing_is_left_of_it(
    card: SimulatedHost,
) -> None:
    """Dom0 lives on the card, so that a way out of it would be refused."""
    card.tree.known.append(Interface(name=PORT, up=True, addresses=("192.0.2.1",)))
    card.tree.route(PORT)
    _, planned = replan(card.adapters(), TWO)
    card.written.begin_change(planned.changes[0], Requester())
    card.make_virtual(NIC, 2, probed=False)
    assert set(said(card, TWO)) == {SUBJECT, ASSIGNED}
    assert set(said(card, NO_POLICY)) == set()
    apply(card, TWO)
    assert card.written.load_state().unfinished == ()
