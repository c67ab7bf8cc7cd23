"""Which policy gave a device: the host's own set, or a file by its real path, and what each takes back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cede.model.pci import Address
from cede.model.policy import HOST_SOURCE, Policy, file_source
from cede.policy.policy_files import host_policy
from sim.passing_time import SimulatedTime
from unit.test_cli import NIC, POLICY, Shown, cede, policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from sim.in_files import SimulatedHost

__all__ = ["cede", "policy"]  # fixtures
EMPTY = "version: 1\n"


def has_nic(host: SimulatedHost, domain: str = "pv1") -> bool:
    return "<hostdev" in (host.guests[domain].live or "")


@pytest.fixture
def own(host: SimulatedHost) -> Path:
    """The host's own set: nothing in the file, the assignment in the folder."""
    host.paths.policy_folder.mkdir(parents=True)
    host.paths.policy.write_text(EMPTY)
    (host.paths.policy_folder / "nic.yaml").write_text(POLICY)
    return host.paths.policy


def test_the_hosts_file_alone_is_not_the_hosts_set(
    cede: Callable[..., Shown], host: SimulatedHost, own: Path
) -> None:
    assert cede("apply", "--yes", on=None).status == 0
    for arguments in (("apply", "--yes"), ("apply", "--yes", "--prune")):
        assert cede(*arguments, on=own).status == 0
        assert has_nic(host)


def test_the_hosts_set_takes_back_what_it_gave_and_no_longer_mentions(
    cede: Callable[..., Shown], host: SimulatedHost, own: Path
) -> None:
    assert cede("apply", "--yes", on=None).status == 0
    (own.parent / "policy.d" / "nic.yaml").unlink()
    assert cede("apply", "--yes", on=None).status == 0
    assert not has_nic(host)


def test_what_an_older_cede_noted_by_the_paths_of_files_is_known(
    cede: Callable[..., Shown], host: SimulatedHost, own: Path
) -> None:
    assert cede("apply", "--yes", on=None).status == 0
    guest = host.guests["pv1"]
    guest.config = guest.config.replace('policy="host"', 'policy="/etc/cede/policy.yaml"')
    assert "/etc/cede/policy.yaml" in guest.config
    (own.parent / "policy.d" / "nic.yaml").unlink()
    assert cede("apply", "--yes", on=None).status == 0
    assert not has_nic(host)


def test_files_of_one_name_in_two_folders_leave_each_others_devices(
    cede: Callable[..., Shown],
    host: SimulatedHost,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in (("one", POLICY), ("two", EMPTY)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text)
    monkeypatch.chdir(tmp_path / "one")
    assert cede("apply", "--yes", on=Path("policy.yaml")).status == 0
    monkeypatch.chdir(tmp_path / "two")
    assert cede("apply", "--yes", "--prune", on=Path("policy.yaml")).status == 0
    assert has_nic(host)


def test_a_file_takes_back_what_it_never_mentions_only_if_told_to(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    assert cede("apply", "--yes").status == 0
    policy.write_text(EMPTY)
    planned = cede("plan", "--json")
    decisions = planned.json("plan")["plan"]["decisions"]
    assert (planned.status, [one["why"] for one in decisions]) == (0, ["unmentioned"])
    assert cede("apply", "--yes").status == 0
    assert has_nic(host)
    assert cede("plan", "--prune").status == 4
    assert cede("apply", "--yes", "--prune").status == 0
    assert not has_nic(host)


@pytest.mark.parametrize(
    "text",
    [
        POLICY.replace("pv1", "pv2"),  # it goes on to another domain
        POLICY.partition("assignments:")[0],  # a device of the policy, and nobody's
        POLICY.replace("01:00.0", "02:00.0"),  # the same name for another device
    ],
)
def test_a_file_takes_back_what_it_mentions_without_being_told_to(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path, text: str
) -> None:
    assert cede("apply", "--yes").status == 0
    policy.write_text(text)
    cede("apply", "--yes")
    assert not any(
        hostdev.address == Address.parse(NIC)
        for domain in host.adapters().libvirt.domains()
        if domain.name == "pv1"
        for hostdev in domain.live
    )


def test_metadata_of_an_older_cede_is_the_policys_that_its_path_means() -> None:
    host, file = Policy(source=HOST_SOURCE), Policy(source=file_source(["/root/policy.yaml"]))
    assert host.gave("/etc/cede/policy.yaml")
    assert file.gave("/root/policy.yaml")
    for noted in ("", "policy.yaml", "cede attach"):
        assert not host.gave(noted)
        assert not file.gave(noted)
    assert not Policy().gave("")


def test_a_file_that_is_still_being_written_is_waited_for(
    host: SimulatedHost, tmp_path: Path
) -> None:
    """The simulated clock is behind the files' times, so each file counts as just written."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY[: POLICY.index("assignments")])
    time = SimulatedTime(0.0)
    time.after(0.3, lambda: path.write_text(POLICY))
    host.time = time
    assert host_policy(path, host.runtime()).assignments
    assert len(time.pauses) == 2
