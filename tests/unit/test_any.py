"""`any: true` on the command line: two like cards, two guests, and each assignment keeps the card that it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from unit.decisions import of_kind
from unit.test_cli import NIC, Shown, cede, policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.in_files import SimulatedHost

__all__ = ["cede", "policy"]  # fixtures
SECOND = "0000:02:00.0"
ANY = """\
version: 1
devices:
  nic0: {match: {vendor: "8086", device: "10d3", any: true}}
  nic1: {match: {vendor: "8086", device: "10d3", any: true}}
assignments:
  - {device: nic0, domain: pv1}
  - {device: nic1, domain: pv2}
"""


@pytest.fixture
def any_policy(policy: Path) -> Path:
    policy.write_text(ANY)
    return policy


def conditions(cede: Callable[..., Shown], subject: str) -> dict[str, tuple[str, str]]:
    said = cede("status", "--json").json("status")["conditions"]
    return {
        one["type"]: (one["status"], one["reason"]) for one in said if one["subject"] == subject
    }


@pytest.mark.usefixtures("any_policy")
def test_the_first_apply_with_any_verifies_and_records_the_devices_that_it_attached(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    applied = cede("apply", "--yes")
    assert applied.status == 0, applied.out
    plugged = {action for action in host.journal if action.startswith("plug")}
    assert plugged == {f"plug pv1 {NIC}", f"plug pv2 {SECOND}"}
    memory = host.written.load_state()
    found = {str(at.address): (at.live, at.config) for at in memory.last_applied}
    assert found == {NIC: (True, True), SECOND: (True, True)}
    for subject in ("nic0 -> pv1", "nic1 -> pv2"):
        assert conditions(cede, subject) == {
            "Attached": ("True", "InDomain"),
            "Persistent": ("True", "InPersistentXML"),
            "Verified": ("True", "GuestHasIt"),
            "InSync": ("True", "AsAssigned"),
        }
    assert cede("status").status == 0
    assert cede("apply", "--yes").status == 0


def test_next_start_with_any_is_recorded_of_the_device_that_was_written_into_the_xml(
    cede: Callable[..., Shown], host: SimulatedHost, any_policy: Path
) -> None:
    any_policy.write_text(ANY.replace("pv2}", "pv2, when: next-start}"))
    applied = cede("apply", "--yes")
    assert applied.status == 0, applied.out
    found = {str(at.address): (at.live, at.config) for at in host.written.load_state().last_applied}
    assert found == {NIC: (True, True), SECOND: (False, True)}
    assert conditions(cede, "nic1 -> pv2")["Persistent"] == ("True", "InPersistentXML")


@pytest.mark.usefixtures("any_policy")
def test_status_before_the_first_apply_with_any_reports_each_assignment_of_its_own_device(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.tree.bind(SECOND, "igb")
    said = cede("status", "--json").json("status")["checked"]
    found = {one["subject"]: one["findings"][0]["found"] for one in said}
    assert found == {"nic0 -> pv1": "bound to e1000e", "nic1 -> pv2": "bound to igb"}


@pytest.mark.usefixtures("any_policy")
def test_verify_explain_with_any_walks_the_way_of_each_device(cede: Callable[..., Shown]) -> None:
    assert cede("apply", "--yes").status == 0
    explained = cede("verify", "--explain", "--json").json("status")["explained"]
    reported = {one["subject"]: str(one["checks"]) for one in explained}
    assert (SECOND in reported["nic1 -> pv2"], NIC in reported["nic1 -> pv2"]) == (True, False), (
        reported
    )


@pytest.mark.usefixtures("any_policy")
def test_a_release_by_name_never_means_the_device_of_another_name(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    used = host.tree.disk("sda", host.tree.sys / "bus/pci/devices" / SECOND)
    host.tree.mount("/", used)
    applied = cede("apply", "--json").json("report")
    assert [one["subject"] for one in applied["outcomes"]] == ["nic0 -> pv1"]
    assert [one["rule"] for one in of_kind(applied["plan"], "refused")] == ["none-left"]
    before = list(host.journal)
    assert cede("release", "nic1").status == 3
    assert host.journal == before
    assert cede("release", "nic0").status == 0
