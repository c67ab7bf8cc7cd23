"""Broken cards: found, told, given to no guest, and let pass by a person."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cede.adapters.linux.sysfs import Sysfs
from cede.model.actions import HotPlug
from cede.model.journal_state import Quarantined
from cede.model.pci import Address
from cede.planner.quarantine import is_quarantined
from cede.services.observe import observe
from cede.services.quarantine import quarantine_broken
from sim.config_spaces import E1000E
from unit.test_cli import NIC, Shown, cede, policy, refusals
from unit.test_executor import ATTACH
from unit.test_recheck import name_of, take

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.in_files import SimulatedHost

__all__ = ["cede", "policy"]  # fixtures
AT = Address.parse(NIC)
FATAL = "Undefined 0\nDLP 2\nMalfTLP 0\nTOTAL_ERR_FATAL 2\n"
NONFATAL = "Undefined 0\nCmpltTO 1\nUnsupReq 7\nTOTAL_ERR_NONFATAL 8\n"


def folder(host: SimulatedHost) -> Path:
    return host.tree.sys / "bus/pci/devices" / NIC


def falls_off(host: SimulatedHost) -> None:
    (folder(host) / "config").write_bytes(b"\xff" * 256)


def comes_back(host: SimulatedHost) -> None:
    (folder(host) / "config").write_bytes(E1000E)


def refused_by(shown: Shown) -> list[str]:
    return refusals(shown)[1]


def seen(host: SimulatedHost) -> tuple[bool, tuple[str, ...]]:
    device = Sysfs(host.tree.sys).device(AT)
    assert device is not None
    return device.off_the_bus, device.aer_errors


def test_a_card_that_answers_with_ones_alone_fell_off_the_bus(host: SimulatedHost) -> None:
    assert seen(host) == (False, ())
    falls_off(host)
    assert seen(host) == (True, ())


@pytest.mark.parametrize("config", [b"\xff" * 4 + E1000E[4:], b"\xff" * 16, b""])
def test_a_virtual_functions_ids_and_what_can_not_be_read_whole_are_no_fault(
    host: SimulatedHost, config: bytes
) -> None:
    (folder(host) / "config").write_bytes(config)
    assert seen(host) == (False, ())


def test_a_card_that_sleeps_is_not_woken_to_be_asked(host: SimulatedHost) -> None:
    falls_off(host)
    (folder(host) / "power").mkdir(exist_ok=True)
    (folder(host) / "power/runtime_status").write_text("suspended\n")
    assert seen(host) == (False, ())


@pytest.mark.parametrize(
    ("fatal", "nonfatal", "errors"),
    [
        (FATAL, NONFATAL, ("2 fatal DLP", "1 non-fatal CmpltTO")),
        ("nonsense\n\xff 3\nDLP x\nDLP -1\n a b 4\nTOTAL 9 9\n", "", ()),
        (None, None, ()),
    ],
)
def test_uncorrectable_errors_on_the_bus_are_counted_but_for_what_probing_makes(
    host: SimulatedHost, fatal: str | None, nonfatal: str | None, errors: tuple[str, ...]
) -> None:
    for name, text in (("aer_dev_fatal", fatal), ("aer_dev_nonfatal", nonfatal)):
        if text is not None:
            (folder(host) / name).write_text(text)
    assert seen(host) == (False, errors)


def test_a_broken_card_is_refused_written_down_and_reported_everywhere(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    falls_off(host)
    assert refused_by(cede("apply", "--json")) == ["device-quarantined"]
    (recorded,) = host.written.load_state().quarantined
    assert (recorded.address, recorded.instance, recorded.lifted) == (
        AT, host.adapters().sysfs.instance(AT), False,
    )  # fmt: skip
    comes_back(host)  # it is broken all the same
    assert "no: quarantined" in cede("devices").out
    shown = cede("status")
    assert "quarantined since" in shown.out
    assert shown.status != 0
    assert "(device-quarantined)" in cede("doctor").out
    assert cede("release", NIC).status == 0, "it comes out of its guest"
    assert refused_by(cede("apply", "--json")) == ["device-quarantined"]
    assert not host.guests["pv1"].domain.live


def test_a_person_lifts_the_quarantine_by_the_cards_name(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    (folder(host) / "aer_dev_fatal").write_text(FATAL)
    assert refused_by(cede("apply", "--json")) == ["device-quarantined"]
    assert cede("resume").status == 0
    assert refused_by(cede("apply", "--json")) == ["device-quarantined"], "that isn't named"
    lifted = cede("resume", "nic0", "--yes")
    assert lifted.status == 0, lifted.out + lifted.err
    assert host.guests["pv1"].domain.live
    assert cede("status").status == 0
    (folder(host) / "aer_dev_fatal").write_text(FATAL.replace("DLP 2", "DLP 3"))
    assert refused_by(cede("apply", "--json")) == ["device-quarantined"], "it made another one"
    assert cede("resume", NIC, "--yes").status == 0
    assert cede("resume", NIC, "--yes").status == 2, "nothing is left to lift"


def test_a_card_that_does_not_come_back_from_a_reset_is_quarantined(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    def breaks(plug: Callable[..., object], *about: object) -> object:
        falls_off(host)
        return plug(*about)

    host.instead["plug"] = breaks
    cede("apply", "--yes")
    (recorded,) = host.written.load_state().quarantined
    assert "did not come back from a reset" in recorded.reason


def test_a_card_in_the_middle_of_a_reset_is_refused_for_the_moment_alone(
    host: SimulatedHost,
) -> None:
    assert take(host, *ATTACH).error is None
    falls_off(host)
    inventory = observe(host.adapters())
    device = inventory.device(AT)
    assert device is not None
    assert is_quarantined(device, inventory)
    host.time.after(1.0, lambda: comes_back(host))
    assert quarantine_broken(host.adapters(), inventory, ()) == ()
    falls_off(host)
    (recorded,) = quarantine_broken(host.adapters(), inventory, ())
    assert host.written.load_state().quarantined == (recorded,)


def test_a_card_that_breaks_after_the_plan_is_not_given_away(host: SimulatedHost) -> None:
    done = take(host, *ATTACH, at=HotPlug, meanwhile=lambda: falls_off(host))
    assert name_of(done) == "device-quarantined"
    assert f"plug pv1 {NIC}" not in host.journal


def test_a_quarantine_is_of_one_card_and_one_boot(host: SimulatedHost) -> None:
    instance = host.adapters().sysfs.instance(AT)
    host.written.quarantine(Quarantined(address=AT, reason="broken", instance=instance))
    inventory = observe(host.adapters())
    device = inventory.device(AT)
    assert device is not None
    assert is_quarantined(device, inventory)
    assert not is_quarantined(replace(device, instance=(instance or 0) + 1), inventory)
    host.written._boot = "another"
    assert host.written.load_state().quarantined == ()
