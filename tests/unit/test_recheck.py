"""What a plan rests on is asked again before each try of an action that can't be taken back."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from shutil import copytree
from typing import TYPE_CHECKING

import pytest

from cede.adapters.linux.sysfs import Sysfs
from cede.domain_xml import document
from cede.errors import PermanentError, TransientError, WorldMovedError
from cede.executor.executor import Executor
from cede.model.actions import (
    Action,
    AddToConfig,
    BindToPciback,
    HotPlug,
    RemoveFromConfig,
    ReturnToDom0,
    Unplug,
)
from cede.model.journal_state import LastApplied
from cede.model.pci import Address
from cede.model.plan import ActionOutcome, Change, Outcome, Purpose
from cede.planner.recheck import recheck
from cede.services.observe import look_again, observe
from sim.config_spaces import E1000
from unit.test_executor import ATTACH, IDENTITY, NIC, RELEASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.model.domain import Domain
    from sim.in_files import SimulatedHost

UNPLUG = RELEASE[0]


def take(
    host: SimulatedHost,
    *actions: Action,
    at: type[Action] | None = None,
    meanwhile: Callable[[], object] = lambda: None,
) -> Outcome:
    """Execute the actions as one change; `meanwhile` happens once, as the first action of the type `at` begins."""
    happened: list[object] = []

    def progress(_change: Change, event: Action | ActionOutcome) -> None:
        if at is not None and isinstance(event, at) and not happened:
            happened.append(meanwhile())

    change = Change(
        subject="nic0 -> pv1",
        purpose=Purpose.RELEASE if actions[0] == UNPLUG else Purpose.ATTACH,
        address=NIC,
        identity=IDENTITY,
        instance=host.adapters().sysfs.instance(NIC),
        actions=actions,
    )
    (outcome,) = Executor(
        host.adapters(), partial(look_again, host.adapters()), progress=progress
    ).execute([change])
    return outcome


def mounted(host: SimulatedHost) -> Callable[[], None]:
    """A disk behind the card is mounted."""
    card = (host.tree.sys / "bus/pci/devices" / str(NIC)).resolve()
    return lambda: host.tree.mount("/srv", host.tree.disk("sda", card))


def gave(
    host: SimulatedHost, domid: int, address: str = str(NIC), *, by_cede: bool = False
) -> None:
    """`xl pci-attach` by a person."""
    host.give(host.cards[Address.parse(address)], domid, by_cede=by_cede)


def reserve(host: SimulatedHost, *, live: bool) -> None:
    """A hostdev of another tool in pv2, running or persistent."""
    guest = host.guests["pv2"]
    if live and guest.live is not None:
        guest.live = document.with_hostdev(guest.live, NIC, "hostdev0")
    elif not live:
        guest.config = document.with_hostdev(guest.config, NIC, "hostdev0")


def given_away(host: SimulatedHost, how: str) -> Callable[[], None]:
    """Another guest gets it: by `xl`, by `virsh`, or `reserved` for its next start."""
    if how == "xl":
        return lambda: gave(host, 2)
    return lambda: reserve(host, live=how == "virsh")


def pulled_out(host: SimulatedHost) -> None:
    """Another card of the same model is put in: it has the folder's name, and no more of the old one."""
    folder = (host.tree.sys / "bus/pci/devices" / str(NIC)).resolve()
    folder.rename(folder.with_name("the old card"))
    copytree(folder.with_name("the old card"), folder, symlinks=True)


def name_of(outcome: Outcome) -> str:
    assert isinstance(outcome.error, WorldMovedError), outcome.error
    return outcome.error.name


def test_what_is_mounted_after_the_plan_is_not_torn_away(host: SimulatedHost) -> None:
    done = take(host, *ATTACH, at=BindToPciback, meanwhile=mounted(host))
    assert name_of(done) == "host-needs-it"
    assert Sysfs(host.tree.sys).driver(NIC) == "e1000e"
    assert not [line for line in host.journal if "bind" in line]
    assert host.written.load_state().unfinished == ()


def test_a_guard_that_the_policy_overrides_is_overridden_then_too(host: SimulatedHost) -> None:
    mounted(host)()
    change = Change(
        subject="s", purpose=Purpose.ATTACH, address=NIC, identity=IDENTITY, actions=ATTACH
    )
    overriding = replace(change, override=("filesystem",))
    now = observe(host.adapters())
    found = [
        recheck(c, ATTACH[1], now, tried=False, is_rollback=False) for c in (change, overriding)
    ]
    assert [one and one.rule for one in found] == ["host-needs-it", None]


def test_it_is_asked_again_before_another_try(host: SimulatedHost) -> None:
    host.fails["bind_to_pciback"] = [TransientError("busy")]
    host.time.after(0.0, mounted(host))
    assert name_of(take(host, *ATTACH)) == "host-needs-it"
    assert host.journal.count(f"bind_to_pciback {NIC}") == 1


def test_a_sibling_that_came_into_use_keeps_a_device_that_is_reset_with_it(
    host: SimulatedHost,
) -> None:
    host.card("0000:01:00.1", driver=None)
    for address in (NIC, "0000:01:00.1"):
        (host.tree.sys / f"bus/pci/devices/{address}/config").write_bytes(E1000)
    host.loaded = True
    host.libvirt.bind_to_pciback(Address.parse("0000:01:00.1"))
    done = take(host, *ATTACH, at=HotPlug, meanwhile=lambda: gave(host, 2, "0000:01:00.1"))
    assert name_of(done) == "sibling-active"
    assert f"plug pv1 {NIC}" not in host.journal


def test_what_was_adopted_is_taken_out_though_it_runs_under_its_old_alias(
    host: SimulatedHost,
) -> None:
    assert take(host, *ATTACH).error is None
    guest = host.guests["pv1"]
    assert guest.live is not None
    guest.live = guest.live.replace("ua-cede-nic0", "hostdev0")
    assert take(host, *RELEASE).error is None
    assert f"unplug pv1 {NIC}" in host.journal


def test_what_a_person_gave_the_guest_meanwhile_stays_theirs(host: SimulatedHost) -> None:
    """`xl pci-attach`, of which libvirt knows nothing; also when cede comes again."""
    done = take(host, *ATTACH, at=HotPlug, meanwhile=lambda: gave(host, 1))
    assert name_of(done) == "elsewhere"
    assert [one.address for one in host.adapters().xenstore.backend()] == [NIC]
    assert not [line for line in host.journal if "plug" in line or "detach" in line]
    assert Sysfs(host.tree.sys).driver(NIC) == "pciback"
    assert observe(host.adapters()).interrupted_in(NIC) is None


def test_a_guest_that_is_still_connecting_is_waited_for_before_it_loses_the_device(
    host: SimulatedHost,
) -> None:
    """libxl takes the device from it, and finds only then that it can't be told."""
    state = "/local/domain/0/backend/pci/1/0/state"

    def half(*_: object) -> None:
        gave(host, 1, by_cede=True)
        host.store.nodes[state] = "3"
        host.time.after(9.0, lambda: host.store.nodes.update({state: "4"}))
        host.instead["plug"] = lambda effect, *again: effect(*again)
        raise TransientError("libvirtd went away")

    def detached(detach: Callable[..., object], *about: object) -> object:
        seen.append(host.store.nodes[state])
        return detach(*about)

    seen: list[str] = []
    host.instead["plug"], host.instead["xl-detach"] = half, detached
    assert take(host, *ATTACH).error is None
    assert seen == ["4"]


def test_what_cedes_own_try_has_left_half_done_is_gone_on_with(host: SimulatedHost) -> None:
    def half(*_: object) -> None:
        gave(host, 1, by_cede=True)
        host.instead["plug"] = lambda effect, *again: effect(*again)
        raise TransientError("libvirtd went away")

    host.instead["plug"] = half
    assert take(host, *ATTACH).error is None
    assert f"xl-detach 1 {NIC}" in host.journal


@pytest.mark.parametrize("live", [False, True])
def test_what_another_guest_has_or_reserves_meanwhile_is_not_plugged(
    host: SimulatedHost, live: bool
) -> None:
    def reserved() -> None:
        reserve(host, live=live)

    assert name_of(take(host, *ATTACH, at=HotPlug, meanwhile=reserved)) == "elsewhere"
    assert f"plug pv1 {NIC}" not in host.journal


def test_anothers_hostdev_is_not_unplugged_in_place_of_cedes(host: SimulatedHost) -> None:
    def replaced() -> None:
        guest = host.guests["pv1"]
        assert guest.live is not None
        without = document.without_hostdev(guest.live, NIC)
        guest.live = document.with_hostdev(without, NIC, "hostdev0")
        without = document.without_hostdev(guest.config, NIC)
        guest.config = document.with_hostdev(without, NIC, "hostdev0")

    assert take(host, *ATTACH).error is None
    assert name_of(take(host, *RELEASE, at=Unplug, meanwhile=replaced)) == "foreign"
    assert f"unplug pv1 {NIC}" not in host.journal


@pytest.mark.parametrize("how", ["xl", "virsh", "reserved"])
def test_dom0_does_not_take_what_somebody_gave_away_meanwhile(
    host: SimulatedHost, how: str
) -> None:
    assert take(host, *ATTACH).error is None
    assert (
        name_of(take(host, *RELEASE, at=ReturnToDom0, meanwhile=given_away(host, how)))
        == "elsewhere"
    )
    assert Sysfs(host.tree.sys).driver(NIC) == "pciback"


def test_a_card_that_was_put_in_meanwhile_is_not_taken_for_one_of_the_same_model(
    host: SimulatedHost,
) -> None:
    done = take(host, *ATTACH, at=BindToPciback, meanwhile=lambda: pulled_out(host))
    assert name_of(done) == "other-device"
    assert not [line for line in host.journal if "bind" in line]


def test_what_dom0_uses_again_is_not_taken_from_its_driver_to_be_returned(
    host: SimulatedHost,
) -> None:
    """Somebody bound the driver by hand and mounted a disk; pciback's slot is still there."""

    def by_hand() -> None:
        host.tree.bind(str(NIC), "e1000e")
        mounted(host)()

    assert take(host, *ATTACH).error is None
    done = take(host, *RELEASE, at=ReturnToDom0, meanwhile=by_hand)
    assert name_of(done) == "host-needs-it"
    assert Sysfs(host.tree.sys).driver(NIC) == "e1000e"
    assert host.journal.count(f"bind_to_pciback {NIC}") == 1


def test_what_came_into_use_once_a_try_has_brought_it_home_does_not_fail_the_next_try(
    host: SimulatedHost,
) -> None:
    assert take(host, *ATTACH).error is None
    change = Change(
        subject="s", purpose=Purpose.RELEASE, address=NIC, identity=IDENTITY, actions=RELEASE
    )
    assert take(host, *RELEASE).error is None
    mounted(host)()
    now = observe(host.adapters())
    found = [
        recheck(change, RELEASE[-1], now, tried=tried, is_rollback=False) for tried in (False, True)
    ]
    assert [one and one.rule for one in found] == ["host-needs-it", None]


@pytest.mark.parametrize("how", ["xl", "virsh", "reserved"])
def test_what_another_guest_has_or_reserves_meanwhile_is_not_written_into_a_second_xml(
    host: SimulatedHost, how: str
) -> None:
    later = tuple(action for action in ATTACH if not isinstance(action, HotPlug))
    assert (
        name_of(take(host, *later, at=AddToConfig, meanwhile=given_away(host, how))) == "elsewhere"
    )
    assert observe(host.adapters()).domain("pv1").config_hostdev(NIC) is None  # type: ignore[union-attr]


def untold(host: SimulatedHost, *names: str) -> Callable[[], None]:
    """From now on the XML of these domains can't be read."""

    def spoilt(read: Callable[[], tuple[Domain, ...]]) -> tuple[Domain, ...]:
        return tuple(
            replace(d, live=(), config=(), ownership=(), unreadable="malformed")
            if d.name in names
            else d
            for d in read()
        )

    def one(read: Callable[[str], object], name: str) -> object:
        if name in names:
            raise PermanentError("libvirt sent malformed XML", name="unreadable-xml")
        return read(name)

    return lambda: host.instead.update({"domains": spoilt, "domain": one, "running": one})


@pytest.mark.parametrize("at", [BindToPciback, HotPlug, AddToConfig])
def test_nothing_is_given_to_a_domain_that_cant_be_read_by_now(
    host: SimulatedHost, at: type[Action]
) -> None:
    done = take(host, *ATTACH, at=at, meanwhile=untold(host, "pv1"))
    assert name_of(done) == "domain-unreadable"
    assert not [line for line in host.journal if at is BindToPciback and "bind" in line]
    assert f"plug pv1 {NIC}" not in host.journal or at is AddToConfig


@pytest.mark.parametrize("at", [Unplug, RemoveFromConfig, ReturnToDom0])
def test_nothing_is_taken_from_a_domain_that_cant_be_read_by_now(
    host: SimulatedHost, at: type[Action]
) -> None:
    assert take(host, *ATTACH).error is None
    done = take(host, *RELEASE, at=at, meanwhile=untold(host, "pv1"))
    assert name_of(done) == "domain-unreadable"
    assert Sysfs(host.tree.sys).driver(NIC) == "pciback"
    assert f"unplug pv1 {NIC}" not in host.journal or at is not Unplug


@pytest.mark.parametrize(("left", "rule"), [(True, "domain-unreadable"), (False, None)])
def test_a_domain_that_cant_be_read_by_now_keeps_what_cede_had_left_there(
    host: SimulatedHost, left: bool, rule: str | None
) -> None:
    pv2 = observe(host.adapters()).domain("pv2")
    assert pv2 is not None
    there = LastApplied(address=NIC, domain=pv2.uuid, live=False, config=True)
    if left:
        host.written.save_status("policy.yaml", [], attachments=[there])
    change = Change(
        subject="s", purpose=Purpose.ATTACH, address=NIC, identity=IDENTITY, actions=ATTACH
    )
    untold(host, "pv2")()
    for action in (*ATTACH[1:], RELEASE[-1]):
        now = look_again(host.adapters(), action)
        found = recheck(change, action, now, tried=False, is_rollback=False)
        assert (found and found.rule) == rule, action


def test_a_storage_pool_that_has_stopped_keeps_its_controller_with_dom0(
    host: SimulatedHost,
) -> None:
    now = observe(host.adapters())
    stopped = replace(
        now,
        domains=tuple(replace(d, unknown_volumes=("fast/pv2",)) for d in now.domains),
        devices=tuple(
            replace(d, identity=replace(d.identity, class_code="010802")) for d in now.devices
        ),
    )
    change = Change(
        subject="s", purpose=Purpose.ATTACH, address=NIC, identity=IDENTITY, actions=ATTACH
    )
    bind = next(action for action in ATTACH if isinstance(action, BindToPciback))
    found = [recheck(change, bind, one, tried=False, is_rollback=False) for one in (now, stopped)]
    assert [one and one.rule for one in found] == [None, "guest-disks-unknown"]
