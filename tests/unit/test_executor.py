"""The executor over a simulated host: what it does, in which order, and where it stops."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from cede.adapters.linux.sysfs import Sysfs
from cede.domain_xml import document
from cede.errors import (
    GuestSilentError,
    HungError,
    PermanentError,
    TransientError,
    UnreachableError,
    UnsafeError,
    WorldMovedError,
)
from cede.executor.actions import original_state
from cede.executor.executor import Executor
from cede.model.actions import (
    Action,
    AddToConfig,
    BindToPciback,
    DontLoadAtBoot,
    ForceDetach,
    HotPlug,
    LoadAtBoot,
    LoadPciback,
    RemoveFromConfig,
    ReturnToDom0,
    SwitchOn,
    Unplug,
)
from cede.model.pci import Address, Identity
from cede.model.plan import ActionOutcome, Change, Outcome, Purpose
from cede.services.observe import look_again
from sim.card import DOM0
from sim.changed_xml import detached

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.model.pci import Link
    from sim.in_files import SimulatedHost

BACKEND = "/local/domain/0/backend/pci"
NIC = Address(0, 1, 0, 0)
IDENTITY = Identity(vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000")
LOAD, BIND = LoadPciback(), BindToPciback(address=NIC, driver="e1000e")
PLUG = HotPlug(address=NIC, domain="pv1", alias="ua-cede-nic0")
ADD = AddToConfig(address=NIC, domain="pv1", alias="ua-cede-nic0", policy="policy.yaml")
ATTACH = (LOAD, BIND, PLUG, ADD)
BACK = ReturnToDom0(address=NIC)
RELEASE = (Unplug(address=NIC, domain="pv1"), RemoveFromConfig(address=NIC, domain="pv1"), BACK)


def take(host: SimulatedHost, *actions: Action, identity: Identity = IDENTITY) -> Outcome:
    change = Change(
        subject="nic0 -> pv1",
        purpose=Purpose.ATTACH,
        address=NIC,
        identity=identity,
        actions=actions,
    )
    (outcome,) = Executor(host.adapters(), partial(look_again, host.adapters())).execute([change])
    return outcome


def driver(host: SimulatedHost) -> str | None:
    return Sysfs(host.tree.sys).driver(NIC)


def test_an_attach_takes_its_actions_in_order_and_the_guest_has_the_device(
    host: SimulatedHost,
) -> None:
    done = take(host, *ATTACH)
    assert done.error is None
    assert [one.action for one in done.tried] == list(ATTACH)
    assert host.journal == [
        "load",
        "bind_to_pciback 0000:01:00.0",
        "plug pv1 0000:01:00.0",
        "redefine pv1",
    ]
    guest, _ = host.libvirt.domains()
    assert [h.owned for h in (*guest.live, *guest.config)] == [True, True]


def test_progress_is_reported_of_each_action_before_and_after(host: SimulatedHost) -> None:
    reported: list[object] = []
    change = Change(
        subject="s", purpose=Purpose.ATTACH, address=NIC, identity=IDENTITY, actions=(LOAD, BIND)
    )
    progress = lambda _change, event: reported.append(event)  # noqa: E731 - said once
    (done,) = Executor(
        host.adapters(), partial(look_again, host.adapters()), progress=progress
    ).execute([change])
    assert reported == [LOAD, done.tried[0], BIND, done.tried[1]]
    assert isinstance(reported[1], ActionOutcome)


@pytest.mark.parametrize(
    ("verb", "rolled_back"),
    [
        ("load", []),
        ("bind_to_pciback", []),
        ("plug", ["assignable-remove", "remove-slot", "reattach"]),
        ("redefine", ["unplug", "assignable-remove", "reattach"]),
    ],
)
def test_the_first_failure_ends_the_rest_and_what_was_done_is_taken_back(
    host: SimulatedHost, verb: str, rolled_back: list[str]
) -> None:
    failure = PermanentError("no", remedy="do")
    host.fails[verb] = [failure]
    done = take(host, *ATTACH)
    assert (done.error, done.rollback_failed) == (failure, None)
    assert [one.error for one in done.tried] == [None] * (len(done.tried) - 1) + [failure]
    failed = next(n for n, action in enumerate(host.journal) if action.startswith(verb))
    assert [action.split()[0] for action in host.journal[failed + 1 :]] == rolled_back
    assert driver(host) == "e1000e"
    assert not host.written.load_state().unfinished


def test_a_guest_that_still_connects_is_waited_for_before_its_device_is_taken(
    host: SimulatedHost,
) -> None:
    """Taken away meanwhile, its memory is gone under the guest's driver, and the guest's kernel stumbles."""
    take(host, *ATTACH)
    frontend = f"/local/domain/{host.backend[NIC]}/device/pci/0/state"
    host.store.nodes[frontend] = "3"
    connecting = list[bool]()
    host.instead["unplug"] = lambda *_: connecting.append(host.store.nodes[frontend] == "3")
    host.time.after(20, lambda: host.store.nodes.update({frontend: "4"}))
    take(host, *RELEASE)
    assert connecting == [False]


@pytest.mark.parametrize("action", [RELEASE[0], ForceDetach(address=NIC, domain="pv1")])
def test_a_guest_that_never_connects_keeps_its_device(host: SimulatedHost, action: Action) -> None:
    take(host, *ATTACH)
    host.store.nodes[f"/local/domain/{host.backend[NIC]}/device/pci/0/state"] = "3"
    if isinstance(action, ForceDetach):
        guest = host.guests["pv1"]
        assert guest.live
        hostdev = document.hostdev_as_shown(guest.live, NIC)
        assert hostdev
        guest.live = detached(guest.live, hostdev)
    done = take(host, action)
    assert isinstance(done.error, GuestSilentError)
    assert done.error.name == "guest-connecting"
    assert not {"unplug", "xl-detach"} & {line.split()[0] for line in host.journal}
    assert host.backend[NIC]


def test_what_another_change_has_switched_on_stays_on_when_one_is_rolled_back(
    host: SimulatedHost,
) -> None:
    on = SwitchOn(domain="pv1", features=("passthrough",))
    assert take(host, on).error is None
    host.fails["load"] = [PermanentError("no", remedy="do")]
    done = take(host, on, LOAD, ADD)
    assert [one.no_change for one in done.tried] == [True, False]
    assert (done.rolled_back, done.rollback_failed) == ((), None)
    guest, _ = host.libvirt.domains()
    assert guest.features == ("passthrough",)


def test_what_cannot_be_taken_back_is_rollback_failed_and_stays_unfinished(
    host: SimulatedHost,
) -> None:
    host.fails["plug"] = [PermanentError("no")]
    host.fails["reattach"] = [PermanentError("hangs", remedy="restart")]
    done = take(host, *ATTACH)
    assert done.rollback_failed is not None
    assert done.rollback_failed.message == "hangs"
    (left,) = host.written.load_state().unfinished
    assert (left.address, left.domain, left.attaching, left.return_to_dom0) == (
        NIC,
        "pv1",
        True,
        True,
    )
    (reported,) = host.written.history()
    assert (reported.outcome, reported.remedy, reported.open) == (
        "rollback failed",
        "restart",
        True,
    )


def test_a_busy_world_is_tried_again_and_a_refusal_is_not(host: SimulatedHost) -> None:
    host.fails["bind_to_pciback"] = [TransientError("busy"), TransientError("busy")]
    assert take(host, LOAD, BIND).error is None
    assert host.journal.count("bind_to_pciback 0000:01:00.0") == 3
    host.fails["plug"] = [UnsafeError("in use")]
    assert isinstance(take(host, PLUG).error, UnsafeError)
    assert host.journal.count("plug pv1 0000:01:00.0") == 1


@pytest.mark.parametrize("look", ["running", "persistent_xml"])
def test_a_libvirtd_that_is_away_when_prestate_is_read_is_waited_for(
    host: SimulatedHost, look: str
) -> None:
    take(host, *ATTACH)
    host.happens("destroy pv1")
    host.fails[look] = [UnreachableError("away"), UnreachableError("away")]
    done = take(host, RELEASE[1])
    assert done.error is None
    assert host.fails[look] == []
    assert "hostdev" not in host.guests["pv1"].config


def test_a_libvirtd_that_is_away_when_a_failed_plug_is_rolled_back_is_waited_for(
    host: SimulatedHost,
) -> None:
    failure = PermanentError("no", remedy="do")

    def plug_fails_and_libvirtd_dies(*_: object) -> None:
        host.fails["running"] = [UnreachableError("away")]
        raise failure

    host.instead["plug"] = plug_fails_and_libvirtd_dies
    done = take(host, *ATTACH)
    assert (done.error, done.rollback_failed) == (failure, None)
    assert host.fails["running"] == []
    assert driver(host) == "e1000e"


def test_another_device_at_the_address_means_that_the_world_has_moved(
    host: SimulatedHost,
) -> None:
    other = Identity(vendor="8086", device="100e", subsystem="8086:0000", class_code="020000")
    done = take(host, *ATTACH, identity=other)
    assert isinstance(done.error, WorldMovedError)
    assert done.error.name == "other-device"
    assert "8086:100e" in done.error.message
    assert "8086:10d3" in done.error.message
    assert (done.error.remedy != "", host.journal) == (True, [])


def test_a_device_that_goes_between_two_actions_is_seen_before_the_next(
    host: SimulatedHost,
) -> None:
    def load_and_pull_the_card(load: Callable[[], None]) -> None:
        load()
        (host.tree.sys / "bus/pci/devices/0000:01:00.0").unlink()

    host.instead["load"] = load_and_pull_the_card
    done = take(host, *ATTACH)
    assert isinstance(done.error, WorldMovedError)
    assert done.error.name == "other-device"
    assert host.journal == ["load"]


def test_a_call_that_returned_is_not_yet_an_action_done(host: SimulatedHost) -> None:
    for verb in ("load", "bind_to_pciback", "plug"):
        host.instead[verb] = lambda *_: None
    names = []
    for action in (LOAD, BIND, PLUG):
        error = take(host, action).error
        assert isinstance(error, PermanentError)
        names.append(error.name)
    assert names == ["pciback-not-loaded", "not-bound-to-pciback", "not-in-backend"]


def test_a_release_lifts_the_quarantine_before_dom0_probes(host: SimulatedHost) -> None:
    take(host, *ATTACH)
    host.journal.clear()
    assert take(host, *RELEASE).error is None
    assert host.journal == [
        "unplug pv1 0000:01:00.0",
        "redefine pv1",
        "assignable-remove 0000:01:00.0",
        "reattach 0000:01:00.0",
    ]
    assert (driver(host), host.cards[NIC].owner) == ("e1000e", DOM0)
    guest, _ = host.libvirt.domains()
    assert (guest.live, guest.config) == ((), ())


def test_a_device_that_never_was_in_a_guest_has_its_slot_dropped_instead(
    host: SimulatedHost,
) -> None:
    take(host, LOAD, BIND)
    host.journal.clear()
    assert take(host, BACK).error is None
    assert host.journal == [
        "assignable-remove 0000:01:00.0",
        "remove-slot 0000:01:00.0",
        "reattach 0000:01:00.0",
    ]
    assert driver(host) == "e1000e"


def test_a_device_given_back_the_wrong_way_is_bound_once_more_to_be_freed(
    host: SimulatedHost,
) -> None:
    take(host, *ATTACH, *RELEASE[:2])
    host.tree.bind("0000:01:00.0", "e1000e")  # as virsh leaves it: bound, and Xen still has it
    host.journal.clear()
    assert take(host, BACK).error is None
    assert host.journal == [
        "bind_to_pciback 0000:01:00.0",
        "assignable-remove 0000:01:00.0",
        "reattach 0000:01:00.0",
    ]
    assert (driver(host), host.cards[NIC].owner) == ("e1000e", DOM0)


def test_a_device_without_a_driver_and_with_a_slot_goes_back_too(host: SimulatedHost) -> None:
    take(host, LOAD, BIND)
    host.tree.bind("0000:01:00.0", None)
    host.journal.clear()
    assert take(host, BACK).error is None
    assert host.journal == ["remove-slot 0000:01:00.0", "reattach 0000:01:00.0"]


def test_a_device_that_no_driver_takes_back_is_reported_with_what_to_do(
    host: SimulatedHost,
) -> None:
    take(host, LOAD, BIND)
    host.cards[NIC].native = None
    error = take(host, BACK).error
    assert isinstance(error, PermanentError)
    assert error.name == "no-driver"
    assert "drivers_probe" in error.remedy


def test_a_guest_that_doesnt_let_go_keeps_the_device_from_dom0(host: SimulatedHost) -> None:
    take(host, *ATTACH)
    host.journal.clear()
    host.instead["unplug"] = lambda *_: True
    done = take(host, *RELEASE)
    assert isinstance(done.error, GuestSilentError)
    assert done.error.name == "guest-keeps-device"
    assert str(NIC) in done.error.message
    assert "pv1" in done.error.remedy
    assert (set(host.journal), driver(host)) == ({"unplug pv1 0000:01:00.0"}, "pciback")


def test_what_xen_has_taken_out_is_no_matter_for_a_live_detach(host: SimulatedHost) -> None:
    take(host, *ATTACH)
    host.store.nodes.clear()
    host.journal.clear()
    done = take(host, *RELEASE)
    assert isinstance(done.error, PermanentError)
    assert done.error.name == "half-detached"
    assert str(NIC) in done.error.message
    assert (host.journal, driver(host)) == ([], "pciback")


def half_bind(host: SimulatedHost, *, unbound: bool) -> None:
    def bind_to_pciback(_bind: object, address: Address) -> None:
        host.tree.override(str(address), "pciback")
        if unbound:
            host.tree.bind(str(address), None)
        raise PermanentError("libvirtd died")

    host.instead["bind_to_pciback"] = bind_to_pciback


def test_a_bind_to_pciback_that_only_set_the_override_is_rolled_back_too(
    host: SimulatedHost,
) -> None:
    half_bind(host, unbound=False)
    host.instead["reattach"] = lambda _, address: host.tree.override(str(address), None)
    done = take(host, *ATTACH)
    assert (len(done.rolled_back), done.rollback_failed) == (1, None)
    assert Sysfs(host.tree.sys).driver_override(NIC) is None


def test_what_went_while_its_original_state_was_read_is_not_remembered(host: SimulatedHost) -> None:
    def read(*_: object) -> tuple[Link, ...]:
        (host.tree.sys / "bus/pci/devices/0000:01:00.0").unlink()
        return ()

    assert original_state(host.adapters(), NIC) is not None
    host.instead["read-links"] = read
    assert original_state(host.adapters(), NIC) is None


def test_the_original_state_of_a_device_outlives_an_interrupted_bind_to_pciback(
    host: SimulatedHost,
) -> None:
    half_bind(host, unbound=True)
    host.fails["reattach"] = [PermanentError("still no libvirtd")]
    assert take(host, *ATTACH).rollback_failed is not None
    left = original_state(host.adapters(), NIC)
    assert left is not None
    assert (driver(host), left.driver) == (None, "e1000e")


def test_what_another_tool_put_into_the_xml_meanwhile_stays_there(host: SimulatedHost) -> None:
    host.guests["pv1"].config = theirs = document.with_hostdev(
        host.guests["pv1"].config, NIC, "hostdev0"
    )
    assert take(host, RELEASE[1]).error is None
    assert host.guests["pv1"].config == theirs


def test_a_guest_that_was_started_meanwhile_keeps_its_ownership_metadata_until_it_is_unplugged(
    host: SimulatedHost,
) -> None:
    take(host, *ATTACH)
    host.journal.clear()
    done = take(host, RELEASE[1], BACK)
    assert isinstance(done.error, WorldMovedError)
    assert host.journal == []
    assert host.written.load_state().unfinished == ()


def test_what_an_attach_was_begun_on_top_of_is_again_if_nothing_comes_of_it(
    host: SimulatedHost,
) -> None:
    change = Change(
        subject="nic0 in pv2",
        purpose=Purpose.HAND_OVER,
        address=NIC,
        identity=IDENTITY,
        actions=RELEASE[1:2],
    )
    Executor(host.adapters(), partial(look_again, host.adapters())).execute([change])
    host.fails["load"] = [PermanentError("no")]
    assert take(host, *ATTACH).error is not None
    (left,) = host.written.load_state().unfinished
    assert (left.subject, left.return_to_dom0) == ("nic0 in pv2", True)
    assert take(host, *ATTACH).error is None
    assert host.written.load_state().unfinished == ()


def test_what_libvirt_lists_is_not_force_detached_behind_its_back(host: SimulatedHost) -> None:
    take(host, *ATTACH)
    host.journal.clear()
    done = take(host, ForceDetach(address=NIC, domain="pv1"))
    assert isinstance(done.error, WorldMovedError)
    assert host.journal == []


def _let_go_too_late(host: SimulatedHost) -> None:
    """As libvirt and libxl leave it: libvirt lists nothing, Xen has the device back, and its nodes are still there."""
    take(host, *ATTACH)
    guest = host.guests["pv1"]
    guest.live = document.without_hostdev(guest.live or "", NIC)
    host.left(host.cards[NIC], guest.domid)
    host.store.nodes[f"{BACKEND}/1/0/state-0"] = "5"


def test_what_a_guest_let_go_of_too_late_is_cleared_without_asking_libxl_again(
    host: SimulatedHost,
) -> None:
    _let_go_too_late(host)
    host.journal.clear()
    assert take(host, ForceDetach(address=NIC, domain="pv1")).error is None
    assert host.journal == [f"remove-given-up {NIC}"]
    assert not [node for node in host.store.nodes if "pci" in node]


@pytest.mark.parametrize(("state", "owner"), [("7", None), ("4", "unknown")])
def test_what_a_guest_may_still_have_is_not_cleared(
    host: SimulatedHost, state: str, owner: str | None
) -> None:
    """It hasn't answered, or Xen doesn't say that it has the device back."""
    _let_go_too_late(host)
    host.store.nodes[f"{BACKEND}/1/0/state"] = state
    if owner:
        host.instead["in-guest"] = lambda *_: None
    before = dict(host.store.nodes)
    host.journal.clear()
    failed = take(host, ForceDetach(address=NIC, domain="pv1")).error
    assert failed is not None
    assert (failed.name, host.store.nodes, host.journal) == ("guest-keeps-device", before, [])


def test_a_detach_that_libxl_is_just_ending_is_left_to_it(host: SimulatedHost) -> None:
    """For a moment its nodes look like those of one that was given up."""
    _let_go_too_late(host)
    host.time.after(1.0, lambda: host.take(NIC))
    host.journal.clear()
    assert take(host, ForceDetach(address=NIC, domain="pv1")).error is None
    assert host.journal == []


def test_each_try_checks_anew_whether_the_device_is_still_there(host: SimulatedHost) -> None:
    host.fails["bind_to_pciback"] = [TransientError("busy")]
    take(host, LOAD)
    host.time.after(0.0, (host.tree.sys / "bus/pci/devices/0000:01:00.0").unlink)
    assert isinstance(take(host, BIND).error, WorldMovedError)
    assert host.journal.count("bind_to_pciback 0000:01:00.0") == 1


def test_a_device_without_a_driver_is_not_back_while_it_is_kept_for_pciback(
    host: SimulatedHost,
) -> None:
    take(host, LOAD, BIND)
    host.tree.bind("0000:01:00.0", None)
    host.instead["reattach"] = lambda *_: None
    error = take(host, ReturnToDom0(address=NIC, undriven=True)).error
    assert isinstance(error, PermanentError)
    assert error.name == "bound-to-pciback"


def test_a_change_of_the_host_itself_is_done_and_rolled_back_if_it_fails(
    host: SimulatedHost,
) -> None:
    modules = host.adapters().modules
    switch = SwitchOn(domain="pv1", features=("e820_host",))
    change = Change(
        subject="host",
        purpose=Purpose.FIX,
        address=None,
        identity=None,
        actions=(LOAD, LoadAtBoot(), switch),
    )
    host.fails["redefine"] = [PermanentError("no")]
    (failed,) = Executor(host.adapters(), partial(look_again, host.adapters())).execute([change])
    assert [one.action for one in failed.rolled_back] == [DontLoadAtBoot()]
    assert (modules.loaded_at_boot(), failed.rollback_failed) == (False, None)
    (done,) = Executor(host.adapters(), partial(look_again, host.adapters())).execute([change])
    assert (done.error, modules.loaded_at_boot()) == (None, True)
    assert "<e820_host" in host.guests["pv1"].config
    assert host.written.load_state().unfinished == ()


def test_what_was_loaded_at_boot_before_stays_so_if_the_rest_fails(host: SimulatedHost) -> None:
    host.adapters().modules.load_at_boot()
    switch = SwitchOn(domain="pv1", features=("e820_host",))
    change = Change(
        subject="host",
        purpose=Purpose.FIX,
        address=None,
        identity=None,
        actions=(LoadAtBoot(), switch),
    )
    host.fails["redefine"] = [PermanentError("no")]
    (failed,) = Executor(host.adapters(), partial(look_again, host.adapters())).execute([change])
    assert failed.rolled_back == ()
    assert host.adapters().modules.loaded_at_boot()


def test_a_change_of_the_host_that_hangs_holds_no_device_and_isnt_complete(
    host: SimulatedHost,
) -> None:
    host.fails["load"] = [HungError("modprobe has hung")]
    change = Change(
        subject="host",
        purpose=Purpose.FIX,
        address=None,
        identity=None,
        actions=(LOAD, LoadAtBoot()),
    )
    (hung,) = Executor(host.adapters(), partial(look_again, host.adapters())).execute([change])
    assert (isinstance(hung.error, HungError), hung.rolled_back) == (True, ())
    memory = host.written.load_state()
    assert (memory.held, memory.unfinished) == ((), ())
    (entry,) = host.written.history()
    assert (entry.outcome, entry.open) == ("hung", True)
