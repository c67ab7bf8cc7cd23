"""A card of several functions is one thing: planned, changed and reported together, on the simulated host."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cede.commands.exit_status import Exit, of_report
from cede.domain_xml import document
from cede.errors import FailureKind, PermanentError, UsageError
from cede.model.actions import RestartDomain
from cede.model.conditions import ATTACHED, IN_SYNC, PERSISTENT, VERIFIED, Status
from cede.model.pci import PCIBACK, Address
from cede.model.plan import Change, Purpose, Refused
from cede.model.policy import Restart
from cede.planner.restarts import Restarts
from cede.policy import policy_files
from cede.services import one_off
from cede.services.assess import Severity
from cede.services.maintenance import drain, plan_drain
from cede.services.pass_report import CheckedAssignment
from cede.services.reconcile import RequestContext, apply, carry_out, carry_out_pass, replan
from cede.services.verification import status
from sim.config_spaces import E1000, E1000E
from sim.faults import Killed
from unit.raises import raises

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.model.policy import Policy
    from cede.services.pass_report import Report
    from sim.in_files import SimulatedHost

FUNCTIONS = ("0000:09:00.0", "0000:09:00.1")
CARD = tuple(map(Address.parse, FUNCTIONS))
DRIVERS = ("radeon", "snd_hda_intel")
NAME = "gpu -> pv1"
BIND = "bind_to_pciback"


def policy_of(more: str = "verify: {guest: none}") -> Policy:
    return policy_files.parse(
        f"""\
version: 1
devices:
  gpu: {{match: {{address: "0000:09:00"}}}}
assignments:
  - {{device: gpu, domain: pv1, {more}}}
""",
        "policy.yaml",
    )


@pytest.fixture
def pair(host: SimulatedHost) -> SimulatedHost:
    """The seed's card: graphics and sound, of which neither can be reset without the other."""
    for address, driver in zip(FUNCTIONS, DRIVERS, strict=True):
        host.tree.function(address, driver=driver, config=E1000)
        assert host.cards[Address.parse(address)].native == driver
    return host


def applied(host: SimulatedHost, policy: Policy, *permitted: Restart) -> Report:
    adapters = host.adapters()
    restarts = Restarts(permitted=frozenset(permitted))
    targets, planned = replan(adapters, policy, restarts=restarts)
    return carry_out_pass(adapters, targets, planned, RequestContext())


def seen(report: Report) -> dict[str, tuple[Status, str]]:
    (one,) = [found for found in report.statuses if found.subject == NAME]
    return {condition.type: (condition.status, condition.reason) for condition in one.conditions}


def test_a_pair_is_made_ready_together_and_waits_for_a_restart(pair: SimulatedHost) -> None:
    done = applied(pair, policy_of())
    verbs = [entry.split()[0] for entry in pair.journal if entry.split()[0] in {BIND, "redefine"}]
    assert verbs[:2] == [BIND, BIND], "both are bound before anything else"
    assert BIND not in verbs[2:]
    assert {pair.cards[address].driver for address in CARD} == {PCIBACK}
    domain = pair.guests["pv1"].domain
    assert all(map(domain.config_hostdev, CARD))
    assert not any(map(domain.live_hostdev, CARD))
    (one,) = done.statuses
    assert (one.subject, one.kind) == (NAME, FailureKind.OUT_OF_SYNC)
    assert seen(done)[IN_SYNC] == (Status.FALSE, "RestartRequired")
    assert seen(done)[PERSISTENT] == (Status.TRUE, "InPersistentXML")
    assert of_report(done) is Exit.OUT_OF_SYNC
    again = applied(pair, policy_of())
    assert not again.outcomes, "nothing is left but the restart"
    assert of_report(again) is Exit.OUT_OF_SYNC


def test_it_is_in_sync_once_somebody_has_restarted_the_guest(pair: SimulatedHost) -> None:
    applied(pair, policy_of())
    pair.happens("reboot pv1")
    done = applied(pair, policy_of())
    assert seen(done)[ATTACHED] == (Status.TRUE, "InDomain")
    assert seen(done)[IN_SYNC][0] is Status.TRUE
    assert of_report(done) is Exit.OK


def test_the_guest_is_asked_in_the_first_pass_after_its_restart(pair: SimulatedHost) -> None:
    applied(pair, policy_of("verify: {guest: console}"))
    pair.happens("reboot pv1")
    done = applied(pair, policy_of("verify: {guest: console}"))
    assert seen(done)[VERIFIED][1] not in {"NotAsked", "NotAttached"}


ASKED = "verify: {guest: none}, restart: when-asked"


def test_a_restart_that_is_asked_for_brings_the_card_and_verifies_it(pair: SimulatedHost) -> None:
    done = applied(pair, policy_of(ASKED), Restart.WHEN_ASKED, Restart.ALLOWED)
    assert of_report(done) is Exit.OK
    assert seen(done)[ATTACHED] == (Status.TRUE, "InDomain")
    assert done.plan.decisions[-1].subject == "restart pv1"
    assert pair.journal.count("shut-down pv1") == pair.journal.count("start pv1") == 1
    again = applied(pair, policy_of(ASKED), Restart.WHEN_ASKED, Restart.ALLOWED)
    assert not again.outcomes


@pytest.mark.parametrize("said", ["never", "when-asked", "allowed"])
def test_no_guest_is_restarted_that_the_policy_does_not_permit_to(
    pair: SimulatedHost, said: str
) -> None:
    permitted = {Restart.WHEN_ASKED, Restart.ALLOWED} - {Restart(said)}
    done = applied(pair, policy_of(f"verify: {{guest: none}}, restart: {said}"), *permitted)
    assert "shut-down pv1" not in pair.journal
    assert of_report(done) is Exit.OUT_OF_SYNC


def test_a_guest_that_does_not_come_back_is_said_at_once(pair: SimulatedHost) -> None:
    pair.fails["start"] = [PermanentError("libxenlight failed to create new domain")]
    done = applied(pair, policy_of(ASKED), Restart.WHEN_ASKED)
    assert of_report(done) is Exit.FAILED
    last = done.statuses[-1]
    assert (last.subject, last.severity) == ("restart pv1", Severity.ERROR)


def test_a_guest_that_an_interrupted_restart_has_left_off_is_started(pair: SimulatedHost) -> None:
    applied(pair, policy_of(ASKED))
    pair.instead["start"] = _killed
    with pytest.raises(Killed):
        applied(pair, policy_of(ASKED), Restart.WHEN_ASKED)
    del pair.instead["start"]
    assert pair.guests["pv1"].domid is None
    done = applied(pair, policy_of("verify: {guest: none}"))
    assert pair.guests["pv1"].domid is not None
    assert not any(outcome.error for outcome in done.outcomes)
    pair.happens("destroy pv1")
    applied(pair, policy_of("verify: {guest: none}"))
    assert pair.guests["pv1"].domid is None, "what the administrator shuts down stays off"


def test_a_guest_that_somebody_started_after_an_interrupted_restart_is_left_alone(
    pair: SimulatedHost,
) -> None:
    pair.instead["start"] = _killed
    with pytest.raises(Killed):
        applied(pair, policy_of(ASKED), Restart.WHEN_ASKED)
    del pair.instead["start"]
    pair.happens("start pv1")
    applied(pair, policy_of(ASKED))
    pair.happens("destroy pv1")
    applied(pair, policy_of(ASKED))
    assert pair.guests["pv1"].domid is None


def test_a_guest_that_could_not_start_again_is_not_shut_down(pair: SimulatedHost) -> None:
    applied(pair, policy_of(ASKED))
    pair.happens(f"nodedev-reattach {FUNCTIONS[1]}")
    pair.cards[CARD[1]].slot = False
    targets, planned = replan(pair.adapters(), policy_of(ASKED))
    action = RestartDomain(domain="pv1", domid=1, addresses=CARD, seconds=120)
    change = Change(
        subject="restart pv1",
        purpose=Purpose.RESTART,
        address=None,
        identity=None,
        actions=(action,),
    )
    pair.cards[CARD[1]].driver = None
    (outcome,) = carry_out(
        pair.adapters(), targets.inventory, replace(planned, decisions=(change,)), RequestContext()
    )
    assert outcome.error is not None
    assert outcome.error.name == "no-start"
    assert "shut-down pv1" not in pair.journal


def test_a_restart_that_would_take_a_device_is_refused(pair: SimulatedHost) -> None:
    pair.happens("virsh-attach 0000:01:00.0 in pv1")
    guest = pair.guests["pv1"]
    guest.config = document.without_hostdev(guest.config, Address.parse("0000:01:00.0"))
    done = applied(pair, policy_of(ASKED), Restart.WHEN_ASKED)
    last = done.plan.decisions[-1]
    assert isinstance(last, Refused)
    assert last.rule == "restart-loses"
    assert "shut-down pv1" not in pair.journal


def test_one_function_that_fails_takes_the_other_back(pair: SimulatedHost) -> None:
    refused = PermanentError("busy", name="busy-device")

    def bind(effect: Callable[..., bool], address: Address) -> bool:
        if address == CARD[1]:
            raise refused
        return effect(address)

    pair.instead[BIND] = bind
    done = applied(pair, policy_of())
    assert [outcome.error for outcome in done.outcomes] == [refused, refused]
    assert [pair.cards[address].driver for address in CARD] == list(DRIVERS)
    assert not any(map(pair.guests["pv1"].domain.config_hostdev, CARD))
    (one,) = done.statuses
    assert one.text.count("busy") == 1, "one reason, said once"


def test_its_status_tells_each_function(pair: SimulatedHost) -> None:
    applied(pair, policy_of())
    pair.happens("reboot pv1")
    adapters = pair.adapters()
    (one,) = CheckedAssignment.of(status(adapters, *replan(adapters, policy_of())))
    assert one.subject == NAME
    assert [function.subject for function in one.functions] == [
        f"{NAME} ({address})" for address in FUNCTIONS
    ]
    assert all(function.attached and function.persistent for function in one.functions)


def test_a_release_of_the_slot_returns_all_of_it(pair: SimulatedHost) -> None:
    applied(pair, policy_of())
    pair.happens("reboot pv1")
    done = len(pair.journal)
    adapters = pair.adapters()
    planned = one_off.plan_release(adapters, policy_of, "09:00")
    report = one_off.take_out(adapters, planned, RequestContext())
    assert of_report(report) is Exit.OK
    assert all(pair.cards[address].in_dom0 for address in CARD)
    verbs = [entry.split()[0] for entry in pair.journal[done:]]
    assert max(n for n, verb in enumerate(verbs) if verb == "unplug") < verbs.index("reattach")


def test_functions_with_a_reset_of_their_own_are_plugged(host: SimulatedHost) -> None:
    for address, driver in zip(FUNCTIONS, DRIVERS, strict=True):
        host.tree.function(address, driver=driver, config=E1000E)
    adapters = host.adapters()
    request = one_off.AttachRequest(device="09:00", domain="pv1")
    targets, planned = one_off.plan_attach(adapters, replace(policy_of(), assignments=()), request)
    done = apply(adapters, targets, planned, RequestContext())
    assert not any(outcome.error for outcome in done.outcomes)
    assert all(map(host.guests["pv1"].domain.live_hostdev, CARD))
    aliases = {hostdev.alias for hostdev in host.guests["pv1"].domain.live}
    assert len(aliases) == len(CARD), "libvirt refuses a second hostdev of the same alias"


def test_what_only_the_bus_resets_is_plugged_before_the_rest_of_its_card(
    host: SimulatedHost,
) -> None:
    for address, driver, space in zip(FUNCTIONS, DRIVERS, (E1000E, E1000), strict=True):
        host.tree.function(address, driver=driver, config=space)
    done = applied(host, policy_of())
    assert not any(outcome.error for outcome in done.outcomes)
    plugged = [entry.split()[-1] for entry in host.journal if entry.startswith("plug ")]
    assert plugged == list(reversed(FUNCTIONS))


def test_a_drain_of_one_function_returns_the_whole_card(pair: SimulatedHost) -> None:
    applied(pair, policy_of())
    pair.happens("reboot pv1")
    adapters = pair.adapters()
    planned = plan_drain(adapters, policy_of(), FUNCTIONS[1], RequestContext())
    drain(adapters, planned, RequestContext())
    assert all(pair.cards[address].in_dom0 for address in CARD)


def test_a_slot_without_a_device_is_no_card(host: SimulatedHost) -> None:
    with raises(UsageError, "no-such-device", "0000:0b:00"):
        one_off.plan_release(host.adapters(), policy_of, "0b:00")


def _killed(*_: object) -> object:
    """Ends the process in the middle of the call."""
    raise Killed
