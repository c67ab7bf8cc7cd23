"""The points at which the lab kills cede, as a run over the simulated host passes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cede.cli.main import main
from cede.model.pci import Address
from lab.in_dom0 import Points
from lab.test_survival import journalled

if TYPE_CHECKING:
    from pathlib import Path

    from sim.in_files import SimulatedHost

NIC = "0000:01:00.0"
POLICY = f"""\
version: 1
devices:
  nic0: {{match: {{address: "{NIC}"}}}}
assignments:
  - {{device: nic0, domain: pv1, verify: {{guest: none}}}}
"""


def passed(host: SimulatedHost, policy: Path, *argv: str) -> list[str]:
    """What a run passes that differs to whoever comes after."""
    policy.write_text(POLICY)
    points = Points()
    with pytest.raises(SystemExit) as ended:
        main([*argv, "-f", str(policy)], points.runtime(host.runtime()))
    assert ended.value.code == 0
    return [point.removeprefix("after ") for point in journalled(points.passed)]


def test_each_action_of_an_apply_has_a_point_as_it_is_written_down_and_done(
    host: SimulatedHost, tmp_path: Path
) -> None:
    points = passed(host, tmp_path / "policy.yaml", "apply", "--yes")
    actions = [point for point in points if not point.startswith("journal.")]
    assert actions == [
        "modprobe #1",
        f"unbinding {NIC} #1",
        f"plugging {NIC} into pv1 #1",
        "editing the XML of pv1 #1",
        "editing the XML of pv1 #2",
    ]
    assert points == [
        "journal.begin_change #1",
        *(
            point
            for number, action in enumerate(actions, 1)
            for point in (
                f"journal.begin_action #{number}", action, f"journal.end_action #{number}"
            )
        ),
        "journal.end_change #1",
    ]  # fmt: skip


def test_each_action_of_a_release_has_its_points_too(host: SimulatedHost, tmp_path: Path) -> None:
    host.kernel.load_pciback()
    host.libvirt.bind_to_pciback(Address.parse(NIC))
    points = passed(host, tmp_path / "policy.yaml", "release", NIC)
    assert points == [
        "journal.begin_change #1",
        "journal.begin_action #1",
        f"lifting the quarantine of {NIC} #1",
        f"dropping the slot of {NIC} #1",
        f"binding {NIC} to its driver #1",
        "journal.forget_original_state #1",
        "journal.end_action #1",
        "journal.end_change #1",
    ]
