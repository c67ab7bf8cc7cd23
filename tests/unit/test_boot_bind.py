"""The early binder over a simulated host: what it binds, what it waits for, and that it comes to an end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from cede.commands.exit_status import Exit, of_report
from cede.errors import HungError, PermanentError
from cede.model.pci import Address
from cede.model.plan import Satisfied
from cede.planner.boot_plan import awaited
from cede.planner.planner import plan
from cede.planner.resolve import resolve_targets
from cede.policy import policy_files
from cede.services.boot import bind, read_boot_configuration
from cede.services.observe import observe_host
from cede.services.pass_report import Report
from cede.services.reconcile import RequestContext, carry_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.model.policy import Policy
    from sim.in_files import SimulatedHost

NIC, OTHER = "0000:01:00.0", "0000:02:00.0"
POLICY = """\
version: 1
devices:
  nic0: {match: {address: "0000:01:00.0"}}
  nic1: {match: {address: "0000:02:00.0"}}
assignments:
  - {device: nic0, domain: pv1}
  - {device: nic1, domain: pv1}
"""


@pytest.fixture
def policy() -> Policy:
    return policy_files.parse(POLICY, "policy.yaml")


@pytest.fixture
def alone(host: SimulatedHost) -> SimulatedHost:
    """The host, reached by a third card."""
    host.tree.function("0000:00:02.0", driver="virtio-pci", net={"eth9": "52:54:00:00:00:09"})
    host.tree.route("eth9")
    return host


def run(
    host: SimulatedHost,
    policy: Policy,
    *,
    wait: float = 0.0,
    limit: float = 60.0,
) -> Report:
    return bind(host.adapters(), policy, RequestContext(), wait=wait, limit=limit)


def test_every_device_is_bound_and_remembered(alone: SimulatedHost, policy: Policy) -> None:
    done = run(alone, policy)
    assert of_report(done) is Exit.OK
    assert alone.journal.count("load") in {1, 2}
    assert {f"bind_to_pciback {NIC}", f"bind_to_pciback {OTHER}"} < set(alone.journal)
    was = alone.written.load_state().origins[Address.parse(NIC)]
    assert was.driver == "e1000e"


def test_a_second_time_there_is_nothing_to_do(alone: SimulatedHost, policy: Policy) -> None:
    run(alone, policy)
    before = list(alone.journal)
    again = run(alone, policy)
    assert (of_report(again), again.outcomes, alone.journal) == (Exit.OK, (), before)
    assert [(d.subject, type(d)) for d in again.plan.decisions] == [
        ("nic0 -> pv1", Satisfied),
        ("nic1 -> pv1", Satisfied),
    ]


def test_one_that_fails_is_given_back_and_doesnt_keep_the_other(
    alone: SimulatedHost, policy: Policy
) -> None:
    def half(bind_to_pciback: Callable[[Address], None], address: Address) -> None:
        if str(address) == NIC:
            alone.tree.override(NIC, "pciback")
            alone.tree.bind(NIC, None)
            raise PermanentError("pciback doesn't want it")
        bind_to_pciback(address)

    alone.instead["bind_to_pciback"] = half
    done = run(alone, policy)
    assert of_report(done) is Exit.FAILED
    assert [outcome.error is None for outcome in done.outcomes] == [False, True]
    sysfs = alone.adapters().sysfs
    assert sysfs.driver(Address.parse(NIC)) == "e1000e"
    assert sysfs.driver_override(Address.parse(NIC)) is None
    assert sysfs.driver(Address.parse(OTHER)) == "pciback"


def test_one_that_hangs_is_held_and_not_tried_again_in_this_boot(
    alone: SimulatedHost, policy: Policy
) -> None:
    alone.fails["bind_to_pciback"] = [HungError("unbinding has hung")]
    first = run(alone, policy)
    assert of_report(first) is Exit.FAILED
    (held,) = alone.written.load_state().held
    again = run(alone, policy)
    (refused,) = again.plan.refusals
    assert (held.reason, refused.rule) == ("unbinding has hung", "held")
    assert str(held.address) in refused.reason


def test_a_device_that_comes_late_is_waited_for_and_the_other_isnt_kept(
    alone: SimulatedHost, policy: Policy
) -> None:
    gone = alone.tree.sys / "bus/pci/devices" / OTHER
    there = gone.readlink()
    gone.unlink()
    by_then: list[str] = []
    alone.time.after(1.0, lambda: by_then.extend(alone.journal))
    alone.time.after(2.0, lambda: gone.symlink_to(there))
    done = run(alone, policy, wait=30.0)
    assert f"bind_to_pciback {NIC}" in by_then
    assert (of_report(done), len(alone.time.pauses)) == (Exit.OK, 2)
    assert alone.journal.count(f"bind_to_pciback {NIC}") == 1
    assert {change.subject for change in done.plan.changes} == {"nic0 -> pv1", "nic1 -> pv1"}


def test_one_that_never_comes_is_reported_when_the_wait_is_over(
    alone: SimulatedHost, policy: Policy
) -> None:
    (alone.tree.sys / "bus/pci/devices" / OTHER).unlink()
    done = run(alone, policy, wait=20.0)
    assert 20.0 <= alone.time.elapsed < 22.0
    assert [refusal.subject for refusal in done.plan.refusals] == ["nic1 -> pv1"]
    assert of_report(done) is Exit.TRY_LATER


def test_the_driver_that_a_card_had_is_waited_for_since_it_reports_the_cards_apart(
    alone: SimulatedHost, policy: Policy
) -> None:
    run(alone, policy)
    alone.tree.slots()
    for at in (NIC, OTHER):
        alone.tree.override(at, None)
        alone.tree.bind(at, None)
    inventory = observe_host(alone.adapters())
    assert awaited(policy, inventory) == ("nic0", "nic1")
    alone.tree.bind(NIC, "e1000e")
    assert awaited(policy, observe_host(alone.adapters())) == ("nic1",)


def test_no_action_is_begun_after_the_limit(alone: SimulatedHost, policy: Policy) -> None:
    def late(load: Callable[[], None]) -> None:
        time.sleep(0.3)
        load()

    alone.instead["load"] = late
    done = run(alone, policy, limit=0.1)
    assert not any(entry.startswith("bind_to_pciback") for entry in alone.journal)
    assert of_report(done) is Exit.TRY_LATER


def test_what_it_holds_for_a_guest_goes_back_once_no_policy_assigns_it(
    alone: SimulatedHost, policy: Policy
) -> None:
    run(alone, policy)
    nothing = policy_files.parse("version: 1\ndevices: {}\nassignments: []\n", "policy.yaml")
    inventory = observe_host(alone.adapters())
    planned = plan(resolve_targets(nothing, inventory))
    assert {str(change.address) for change in planned.changes} == {NIC, OTHER}
    carry_out(alone.adapters(), inventory, planned, RequestContext())
    assert alone.adapters().sysfs.driver(Address.parse(NIC)) == "e1000e"


def test_apply_goes_on_with_what_boot_has_bound(alone: SimulatedHost, policy: Policy) -> None:
    run(alone, policy)
    inventory = observe_host(alone.adapters())
    planned = plan(resolve_targets(policy, inventory))
    assert not any(str(action).startswith("bind_to_pciback") for action in planned.actions)
    carry_out(alone.adapters(), inventory, planned, RequestContext())
    assert observe_host(alone.adapters()).unfinished == ()
    assert alone.written.load_state().origins[Address.parse(NIC)].driver == "e1000e"


def test_a_guest_that_was_started_with_it_settles_the_matter(
    alone: SimulatedHost, policy: Policy
) -> None:
    carry_out(
        alone.adapters(),
        observe_host(alone.adapters()),
        plan(resolve_targets(policy, observe_host(alone.adapters()))),
        RequestContext(),
    )
    run(alone, policy)
    assert plan(resolve_targets(policy, observe_host(alone.adapters()))).changes == ()
    assert observe_host(alone.adapters()).unfinished == ()


def test_udev_that_doesnt_settle_is_no_reason_to_give_up(
    alone: SimulatedHost, policy: Policy
) -> None:
    alone.instead["await-udev"] = lambda *_: False
    assert of_report(run(alone, policy)) is Exit.OK


def test_what_the_host_is_reported_is_read_from_its_files(
    alone: SimulatedHost,
) -> None:
    for path, text in {
        "proc/cmdline": "ro xen-pciback.hide=(01:00.0)",
        "etc/modprobe.d/cede.conf": "options xen-pciback hide=(02:00.0)",
        "etc/initramfs-tools/modules": "xen-pciback\n",
        "usr/sbin/update-initramfs": "",
    }.items():
        file = alone.tree.sys.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = read_boot_configuration(alone.adapters())
    assert [setting.place for setting in found.settings] == [
        "hide= in /etc/modprobe.d/cede.conf",
        "xen-pciback.hide= on the kernel's command line",
    ]
    assert (found.makers, found.early, found.built_in) == (("initramfs-tools",), True, False)
