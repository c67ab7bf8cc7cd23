"""What real guests answered, whole, cut off at every byte and damaged: never a false proof, never an exception."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cede.guest import pci_function, probe
from cede.guest.pci_function import Interrupt
from cede.model.pci import Address, Device, Identity, SwitchedOn
from cede.verifier import guest_checks
from cede.verifier.checklist import CheckResult, CheckStatus, verified

CORPUS = Path(__file__).parents[1] / "corpus"
CARD = Identity(vendor="8086", device="10d3", subsystem="8086:0000", class_code="020000")
SLOTS = {"pv": Address(0, 0, 0, 0), "hvm": Address(0, 0, 3, 0)}
MACS = {"pv": "52:54:00:01:00:00", "hvm": "52:54:00:00:11:00"}
ON = SwitchedOn(memory=True, io=True, bus_master=True, msix=True)


def recorded(suffix: str) -> list[str]:
    return sorted(path.name for path in CORPUS.glob(f"*.{suffix}"))


def kind(name: str) -> str:
    return name.partition("-")[0]


def findings(name: str, said: str, mac: str | None = None) -> tuple[CheckResult, ...]:
    slot = SLOTS[kind(name)]
    device = Device(address=Address(0, 1, 0, 0), identity=CARD, mac=mac or MACS[kind(name)])
    return guest_checks.of_guest(probe.parse(said, slot), device, slot, ON)


def test_there_is_something_to_try() -> None:
    assert {kind(name) for name in recorded("look")} >= {"pv", "hvm"}
    assert len(recorded("look")) >= 3
    for suffix in ("nnvvks", "nvvks"):
        assert len(recorded(suffix)) >= 2


@pytest.mark.parametrize("name", recorded("look"))
def test_a_recorded_probe_answer_verifies_its_card_in_every_check(name: str) -> None:
    found = findings(name, (CORPUS / name).read_text())
    assert verified(found), found
    assert {one.status for one in found} == {CheckStatus.PASSED}
    assert {"guest MAC", "guest BARs", "guest log"} <= {one.source for one in found}


@pytest.mark.parametrize("name", recorded("look"))
def test_a_recorded_probe_answer_that_is_truncated_verifies_nothing(name: str) -> None:
    said = (CORPUS / name).read_text()
    for length in range(len(said)):
        (one,) = findings(name, said[:length])
        assert one.status is CheckStatus.UNVERIFIED


@pytest.mark.parametrize("name", recorded("look"))
@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_probe_answer_never_verifies_what_the_whole_one_did_not(
    name: str, data: st.DataObject
) -> None:
    said = (CORPUS / name).read_text()
    at = data.draw(st.integers(0, len(said)))
    gone = data.draw(st.integers(0, 80))
    put = data.draw(st.one_of(st.text(max_size=20), st.sampled_from(["\n", "|\n|", "==end 1 1\n"])))
    damaged = said[:at] + put + said[at + gone :]
    another = "52:54:00:ff:ff:ff"
    assert not verified(findings(name, damaged, mac=another)) or another in damaged


@pytest.mark.parametrize("name", [*recorded("nnvvks"), *recorded("nvvks")])
def test_recorded_details_report_regions_driver_interrupt_and_serial(name: str) -> None:
    slot = SLOTS[kind(name)]
    lines = (CORPUS / name).read_text().splitlines()
    found = pci_function.of_details(lines, slot)
    assert found is not None
    assert (found.vendor, found.device, found.driver) == ("8086", "10d3", "e1000e")
    assert (found.class_code, found.subsystem) == ("020000", "8086:0000")
    assert (len(found.regions or ()), found.unassigned) == (4, 0)
    assert found.interrupt is Interrupt.MSIX
    whole = "\n".join(lines)
    for length in range(len(whole)):
        cut = pci_function.of_details(whole[:length].splitlines(), slot)
        assert cut is None or (cut.vendor, cut.device) == ("8086", "10d3")
