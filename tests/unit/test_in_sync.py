"""Drift, pause, resume, drain and status on the command line, over a simulated host."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cede.cli.options import duration
from cede.commands import status as status_command
from cede.errors import PermanentError, UnreachableError
from cede.model.conditions import Condition, ConditionType, Status
from cede.model.pci import Address
from cede.policy.policy_files import host_policy, source_at
from unit.decisions import of_kind
from unit.test_cli import NIC, POLICY, Shown, cede, decisions, policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.in_files import SimulatedHost

__all__ = ["cede", "policy"]  # fixtures
REPORT = POLICY.replace("domain: pv1}", "domain: pv1, on_drift: report}")


def taken_away(host: SimulatedHost) -> None:
    """`virsh detach-device --live --config`, by somebody: the note stays."""
    host.detach_device(host.cards[Address.parse(NIC)], host.guests["pv1"])


def conditions(cede: Callable[..., Shown]) -> dict[str, tuple[str, str, str]]:
    said = cede("status", "--json").json("status")["conditions"]
    return {one["type"]: (one["status"], one["reason"], one["since"][11:16]) for one in said}


def next_tries(cede: Callable[..., Shown]) -> dict[str, str]:
    said = cede("status", "--json").json("status")["conditions"]
    return {one["type"]: one["next_try"] for one in said}


def drifted(shown: Shown) -> list[str]:
    """The subjects that a report calls drifted, whether they are put back or not."""
    planned = shown.json("report")["plan"]
    restored = [one for one in of_kind(planned, "change") if one["purpose"] == "restore"]
    return [one["subject"] for one in (*restored, *of_kind(planned, "drifted"))]


def driver(host: SimulatedHost) -> str:
    return (host.tree.sys / "bus/pci/devices" / NIC / "driver").resolve().name


# -- drift


def test_what_another_tool_took_out_is_put_back_and_the_plan_says_why(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    taken_away(host)
    planned = cede("plan", "--json").json("plan")["plan"]["decisions"][0]
    assert planned["purpose"] == "restore"
    done = cede("apply", "--json", "--scheduled")
    assert (done.status, drifted(done)) == (0, ["nic0 -> pv1"])
    assert cede("status").status == 0


def test_what_is_only_to_be_reported_is_left_by_the_timer_and_restored_by_a_person(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    policy.write_text(REPORT)
    assert cede("apply", "--yes", "--scheduled").status == 0, "a first attach is no drift"
    taken_away(host)
    before = list(host.journal)
    for _ in range(2):
        reported = cede("apply", "--scheduled", "--json")
        assert (reported.status, drifted(reported)) == (4, ["nic0 -> pv1"])
    assert cede("plan", "--scheduled").status == 4
    assert host.journal == before
    assert conditions(cede)["InSync"][:2] == ("False", "Drifted")
    restored = cede("apply", "--json")
    assert (restored.status, drifted(restored)) == (0, ["nic0 -> pv1"])
    assert of_kind(restored.json("report")["plan"], "change")


def test_what_was_plugged_out_of_the_running_guest_alone_is_drift_too(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    policy.write_text(REPORT)
    assert cede("apply", "--yes").status == 0
    host.detach_device(host.cards[Address.parse(NIC)], host.guests["pv1"], config=False)
    reported = cede("apply", "--scheduled", "--json")
    assert (reported.status, drifted(reported)) == (4, ["nic0 -> pv1"])


def test_what_a_person_released_is_given_again_by_the_next_pass_and_no_drift(
    cede: Callable[..., Shown], policy: Path
) -> None:
    policy.write_text(REPORT)
    assert cede("apply", "--yes").status == 0
    assert cede("release", "nic0").status == 0
    again = cede("apply", "--json", "--scheduled")
    assert (again.status, drifted(again)) == (0, [])


# -- pause


def test_what_is_paused_stays_as_it_is_and_doesnt_count_until_it_is_resumed(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    paused = cede("pause", "pv1", "--reason", "a\ttest\x1b", "--json").json("pause")["pauses"]
    assert [(one["target"], one["reason"], one["until"]) for one in paused] == [
        ("pv1", "a test?", "")
    ]
    taken_away(host)
    before = list(host.journal)
    left = cede("apply", "--json")
    (paused,) = of_kind(left.json("report")["plan"], "paused")
    assert (left.status, paused["pause"]["drained"]) == (0, False)
    shown = cede("status", "--json")
    assert (shown.status, shown.json("status")["checked"][0]["paused"]) == (0, True)
    assert host.journal == before
    resumed = cede("resume", "pv1", "--json")
    assert (resumed.status, drifted(resumed)) == (0, ["nic0 -> pv1"])
    assert cede("status").status == 0


def test_a_pause_ends_when_its_time_is_over(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    assert "2026-01-31T05:00:00.000+00:00" in cede("pause", "nic0", "--for", "2h").out
    taken_away(host)
    host.time.today += timedelta(minutes=119)
    assert cede("plan").status == 0
    host.time.today += timedelta(minutes=1)
    assert cede("plan").status == 4


def test_a_resume_of_what_is_to_be_reported_only_reports_it(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    policy.write_text(REPORT)
    assert cede("apply", "--yes").status == 0
    cede("pause", NIC)
    taken_away(host)
    resumed = cede("resume", "nic0", "--json")  # paused by its address, resumed by its name
    assert (resumed.status, drifted(resumed)) == (4, ["nic0 -> pv1"])
    assert not of_kind(resumed.json("report")["plan"], "change")
    assert cede("resume").status == 0
    assert cede("resume", "--json").json("report")["exit"] == 0


def test_a_person_who_names_a_paused_device_means_it(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    cede("pause", "nic0")
    attached = cede("attach", "nic0", "pv1")
    assert attached.status == 0, attached.out
    assert cede("release", "nic0").status == 0
    assert driver(host) == "e1000e"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("pause", "pv9"), "'pv9'"),
        (("pause", "0000:09:00.0"), "0000:09:00.0"),
        (("pause", "nic0", "--for", "soon"), "'soon'"),
        (("resume", "pv1"), "pv1"),
        (("status", "--watch", "--interval", "0.1"), "0.1"),
    ],
)
def test_a_wrong_name_or_time_is_reported_with_what_would_be_right(
    cede: Callable[..., Shown], arguments: tuple[str, ...], named: str
) -> None:
    shown = cede(*arguments)
    assert (shown.status, named in shown.err) == (2, True), shown.err


def test_a_name_of_both_a_domain_and_a_device_is_refused(
    cede: Callable[..., Shown], policy: Path
) -> None:
    policy.write_text(POLICY.replace("nic0", "pv1"))
    shown = cede("pause", "pv1")
    uuid = "00000000-0000-0000-0000-000000000000"
    assert (shown.status, uuid in shown.err) == (2, True), shown.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("1h30m", 5400), ("2 H", 7200), ("7d", 604800)]
)
def test_a_time_span_is_read_as_systemd_writes_it(text: str, seconds: int) -> None:
    unused: Any = None
    assert duration(unused, unused, text) == seconds


# -- drain


def test_a_drained_host_has_its_devices_back_until_it_is_resumed(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    drained = cede("drain", "--json", "--reason", "new firmware")
    assert drained.status == 0, drained.out
    assert [one["purpose"] for one in of_kind(drained.json("report")["plan"], "change")] == [
        "drain"
    ]
    assert driver(host) == "e1000e"
    before = list(host.journal)
    for command in (("drain",), ("apply",), ("apply", "--scheduled")):
        again = cede(*command, "--json")
        assert (again.status, again.json("report")["outcomes"]) == (0, []), again.out
    assert host.journal == before
    assert cede("status").status == 0
    found = conditions(cede)
    assert found["InSync"][:2] == ("Unknown", "Drained")
    assert found["Maintenance"][:2] == ("True", "Drained")
    assert cede("attach", "nic0", "pv1").status == 75
    assert cede("resume", "nic0").status == 2, "everything is drained, and not nic0 itself"
    resumed = cede("resume", "--json")
    (checked,) = resumed.json("report")["checked"]
    assert (resumed.status, decisions(checked)["guest lspci"]) == (0, "passed")
    assert conditions(cede)["Maintenance"][:2] == ("False", "InService")


def test_the_drain_of_the_host_ends_alone_and_what_was_paused_by_name_stays_so(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    assert cede("drain", "--yes").status == 0
    assert cede("pause", "pv1").status == 0
    assert cede("resume", "pv1", "--host").status == 2
    assert cede("resume", "--host", "--yes").status == 0
    found = conditions(cede)
    assert found["Maintenance"][:2] == ("False", "InService")
    assert found["InSync"][:2] == ("Unknown", "Paused")
    assert driver(host) == "e1000e"
    assert cede("resume", "--host", "--yes").status == 0, "nothing is left to end"
    assert cede("resume", "--yes").status == 0
    assert driver(host) == "pciback"


def test_a_one_off_is_drained_too_and_how_it_comes_back_is_reported(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    policy.write_text("version: 1\n")
    assert cede("attach", NIC, "pv1").status == 0
    drained = cede("drain", "--yes")
    assert (drained.status, f"`cede attach {NIC} pv1`" in drained.out) == (0, True)
    assert driver(host) == "e1000e"


@pytest.mark.parametrize("verb", ["unplug", "redefine", "assignable-remove", "reattach"])
def test_a_drain_that_failed_on_the_way_is_gone_on_with(
    cede: Callable[..., Shown], host: SimulatedHost, verb: str
) -> None:
    assert cede("apply", "--yes").status == 0
    host.fails[verb] = [PermanentError("no")]
    assert cede("drain", "--yes").status == 1
    done = cede("apply", "--yes", "--scheduled")  # any pass goes on with it
    assert done.status == 0, done.out
    assert driver(host) == "e1000e"
    assert cede("drain", "--yes").status == 0
    assert cede("resume", "--yes").status == 0
    assert cede("status").status == 0


# -- conditions


def test_conditions_are_kept_with_their_times_and_clear_when_no_longer_so(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    policy.write_text(REPORT)
    assert conditions(cede)["Attached"] == ("False", "Outstanding", "03:00")
    cede("apply", "--yes")
    host.time.today += timedelta(hours=1)
    assert cede("apply", "--yes").status == 0
    seen = conditions(cede)
    assert seen["Attached"] == ("True", "InDomain", "03:00")
    assert seen["Verified"] == ("True", "GuestHasIt", "03:00")
    assert seen["PcibackLoaded"] == ("True", "InSysfs", "03:00")
    taken_away(host)
    assert conditions(cede)["Attached"] == ("False", "Drifted", "04:00")
    cede("apply", "--scheduled")
    host.time.today += timedelta(hours=1)
    assert conditions(cede)["Attached"] == ("False", "Drifted", "04:00")
    policy.write_text("version: 1\n")
    assert cede("apply", "--yes", "--prune").status == 0
    assert set(conditions(cede)) == {
        "LibvirtReachable", "PolicyValid", "JournalUsable", "DomainsReadable", "PcibackLoaded", "Maintenance",
    }  # fmt: skip


def test_a_pass_that_libvirt_didnt_answer_leaves_that_as_a_condition(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    host.silent = UnreachableError("libvirt doesn't answer", remedy="systemctl start libvirtd")
    host.time.today += timedelta(hours=1)
    assert cede("apply", "--scheduled").status == 75
    host.time.today += timedelta(hours=1)
    found = conditions(cede)
    assert found["LibvirtReachable"] == ("False", "Unreachable", "04:00")
    assert found["Attached"] == ("True", "InDomain", "03:00"), "as last seen"
    reported = cede("status", "--json")
    assert reported.status == reported.json("status")["exit"] == 75
    assert reported.json("status")["error"]["kind"] == "try-later"
    host.silent = None
    assert conditions(cede)["LibvirtReachable"] == ("True", "Answers", "05:00")


def test_a_policy_that_cant_be_read_is_a_condition_until_it_can(
    cede: Callable[..., Shown], policy: Path
) -> None:
    policy.write_text("version: 2\n")
    assert cede("apply", "--scheduled").status == 2
    policy.write_text(POLICY)
    assert conditions(cede)["PolicyValid"][:2] == ("True", "Read")


def test_a_guest_that_is_not_verified_is_asked_again_by_every_pass_until_it_is(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    whole, host.guest_says = host.guest_says, ""
    assert cede("apply", "--yes").status == 1
    assert conditions(cede)["InSync"][:2] == ("Unknown", "NoAnswer")
    assert cede("apply", "--scheduled").status == 1
    host.guest_says = whole
    done = cede("apply", "--scheduled", "--json")
    (checked,) = done.json("report")["checked"]
    assert (done.status, decisions(checked)["guest lspci"]) == (0, "passed")
    assert conditions(cede)["Verified"][:2] == ("True", "GuestHasIt")
    host.guest_says = ""
    assert cede("apply", "--scheduled").status == 0, "and no longer"


def test_what_a_guest_said_does_not_outlive_its_restart(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    host.happens("reboot pv1")
    assert conditions(cede)["Verified"][:2] == ("Unknown", "DomainRestarted")
    assert cede("status").status == 4, "nobody can tell"
    host.guest_says = ""
    assert cede("apply", "--scheduled").status == 1, "it is asked anew"
    assert conditions(cede)["Verified"][:2] == ("Unknown", "NoAnswer")


def test_a_guest_that_nobody_has_asked_is_asked_by_the_next_pass(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    assert cede("apply", "--yes").status == 0
    host.written.save_status(host_policy(policy, host.runtime()).source, (), ())
    assert conditions(cede)["Verified"][:2] == ("Unknown", "NotAsked")
    assert cede("status").status == 4
    assert cede("apply", "--scheduled").status == 0
    assert conditions(cede)["Verified"][:2] == ("True", "GuestHasIt")
    assert cede("status").status == 0


def test_a_guest_that_the_policy_says_not_to_ask_needs_no_proof(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    policy.write_text(POLICY.replace("domain: pv1", "domain: pv1, verify: {guest: none}"))
    assert cede("apply", "--yes").status == 0
    host.happens("reboot pv1")
    assert conditions(cede)["Verified"][:2] == ("Unknown", "NotToBeAsked")
    assert cede("status").status == 0


def test_the_next_try_that_a_daemon_recorded_is_reported_by_status_until_it_is_past(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    host.fails["plug"] = [PermanentError("no")]
    assert cede("apply", "--yes").status == 1
    failed = [
        replace(one, next_try="2026-01-31T03:10:00+00:00") if one.type == "InSync" else one
        for one in host.written.conditions(source_at([policy]))
    ]
    host.written.save_status(source_at([policy]), failed)
    host.time.today += timedelta(minutes=5)
    assert conditions(cede)["InSync"] == ("False", "Failed", "03:00")
    assert next_tries(cede)["InSync"] == "2026-01-31T03:10:00+00:00"
    host.time.today += timedelta(minutes=10)
    assert set(next_tries(cede).values()) == {""}


# -- watch


class Looks:
    """What is seen one look after the other; then the person has enough."""

    def __init__(self, *looks: status_command.Looked) -> None:
        self._looks = list(looks)
        self.slept: list[float] = []

    def look(self) -> status_command.Looked:
        return self._looks.pop(0)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self._looks:
            raise KeyboardInterrupt


def looked(reason: str, since: str) -> status_command.Looked:
    return status_command.Looked(
        conditions=(
            Condition(
                subject="nic0 -> pv1", type=ConditionType.IN_SYNC, reason=reason, since=since,
                status=Status.TRUE if reason == "AsAssigned" else Status.FALSE,
            ),
        )
    )  # fmt: skip


def test_a_watch_follows_the_policy_as_it_is_edited(
    cede: Callable[..., Shown], policy: Path, host: SimulatedHost
) -> None:
    def has_enough() -> None:
        raise KeyboardInterrupt

    host.time.after(5.0, lambda: policy.write_text("version: 2\n"))
    host.time.after(10.0, lambda: policy.write_text(POLICY))
    host.time.after(15.0, has_enough)
    shown = cede("status", "--watch", "--interval", "5")
    reported = [line for line in shown.out.splitlines() if "PolicyValid" in line]
    assert shown.status == 4, "as the last look found it"
    assert [line.split(" since ")[0].rpartition(" ")[2] for line in reported] == [
        "True",
        "False",
        "True",
    ]
    assert "policy.yaml:1:10" in reported[1]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_watch_that_is_no_terminals_says_a_line_for_each_change(
    capsys: pytest.CaptureFixture[str], as_json: bool, golden: Callable[[str, str], None]
) -> None:
    looks = Looks(
        looked("AsAssigned", "1"), looked("AsAssigned", "2"), looked("Drifted", "3"),
        looked("Drifted", "4"), looked("AsAssigned", "5"),
    )  # fmt: skip
    code = status_command._watch(
        looks.look, 2.0, as_json=as_json, sleep=looks.sleep, terminal=False
    )
    said = capsys.readouterr().out.splitlines()
    assert (code.exit, looks.slept) == (0, [2.0] * 5)
    if as_json:
        assert [json.loads(line)["conditions"][0]["since"] for line in said] == ["1", "3", "5"]
    else:
        assert len(said) == 3
        golden("status_watch.txt", "\n".join([*said, ""]))


def test_a_watch_on_a_terminal_draws_everything_anew(
    capsys: pytest.CaptureFixture[str], golden: Callable[[str, str], None]
) -> None:
    looks = Looks(looked("AsAssigned", "1"), looked("AsAssigned", "2"))
    status_command._watch(looks.look, 5.0, as_json=False, sleep=looks.sleep, terminal=True)
    said = capsys.readouterr().out
    assert said.count("InSync") == 2
    golden("status_watch_terminal.txt", said)


def test_a_guest_that_is_still_connecting_to_its_device_is_waited_for(
    host: SimulatedHost, cede: Callable[..., Shown]
) -> None:
    """Its frontend goes from state 3 to 4 some time after a start, a resume or an apply that was cut off."""
    assert cede("apply", "--yes").status == 0
    (front,) = (node for node in host.store.nodes if node.endswith("/device/pci/0/state"))
    host.store.nodes[front] = "3"
    host.time.after(3.0, lambda: host.store.nodes.update({front: "4"}))
    applied = cede("apply", "--yes", "--json")
    (checked,) = applied.json("report")["checked"]
    assert (applied.status, decisions(checked)["xenstore frontend"]) == (0, "passed")
