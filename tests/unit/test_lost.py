"""Devices that come late, that are optional, and that are torn out of a running guest, on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.model.pci import Address
from unit.test_cli import NIC, POLICY, Shown, cede, policy, refusals
from unit.test_recheck import pulled_out

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.in_files import SimulatedHost

__all__ = ["cede", "policy"]  # fixtures
AT = Address.parse(NIC)
OPTIONAL = POLICY.replace("domain: pv1}", "domain: pv1, optional: true}")


def hostdevs(host: SimulatedHost) -> tuple[int, int]:
    domain = host.guests["pv1"].domain
    return len(domain.live), len(domain.config)


def test_an_optional_device_goes_and_comes_and_its_guest_is_in_sync(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    policy.write_text(OPTIONAL)
    assert "optional: true" in OPTIONAL
    assert cede("apply", "--yes").status == 0
    host.happens("destroy pv1")
    host.happens(f"vanish {NIC}")
    assert cede("apply", "--yes").status == 0
    assert hostdevs(host) == (0, 0)
    shown = cede("status", "--json")
    assert shown.status == 0, shown.out
    assert "OptionalAbsent" in shown.out
    host.happens("start pv1")
    host.happens(f"appear {NIC}")
    assert cede("apply", "--yes").status == 0
    assert hostdevs(host) == (1, 1)


def test_a_device_that_comes_late_is_waited_for(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.happens(f"vanish {NIC}")
    assert refusals(cede("apply", "--json")) == (75, ["no-device"])
    host.happens(f"appear {NIC}")
    assert cede("apply", "--yes").status == 0


def test_a_card_torn_out_is_reported_and_the_xml_cleaned_while_the_guest_runs(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    host.happens(f"vanish {NIC}")
    assert refusals(cede("apply", "--json")) == (75, ["vanished"])
    released = cede("release", NIC)
    assert (released.status, hostdevs(host)) == (75, (1, 0)), released.out
    assert refusals(cede("release", NIC, "--json")) == (75, ["vanished"])
    host.happens("destroy pv1")
    host.happens(f"appear {NIC}")
    assert cede("release", NIC).status == 0


def test_a_card_put_in_at_its_place_is_not_taken_for_it(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    pulled_out(host)
    assert refusals(cede("apply", "--json")) == (75, ["replaced"])
    before = list(host.journal)
    assert refusals(cede("release", NIC, "--json")) == (75, ["replaced"])
    assert host.journal == before
