"""The way back from steps that were taken: what each is taken back by, and in which order."""

from __future__ import annotations

import pytest

from cede.domain_xml import document
from cede.domain_xml.edits import edited
from cede.model.actions import (
    Action,
    AddToConfig,
    Adopt,
    BindToPciback,
    DontLoadAtBoot,
    ForceDetach,
    HotPlug,
    LoadAtBoot,
    LoadPciback,
    RemoveFromConfig,
    ReturnToDom0,
    SwitchOff,
    SwitchOn,
    Unplug,
)
from cede.model.pci import Address
from cede.planner.attach import switch_on
from cede.planner.recovery import rollback_actions

NIC = Address(0, 1, 0, 0)
ALIAS = "ua-cede-nic0"
LOAD = LoadPciback()
PLUG = HotPlug(address=NIC, domain="pv1", alias=ALIAS, permissive=True)
ADD = AddToConfig(address=NIC, domain="pv1", alias=ALIAS, policy="p")


@pytest.mark.parametrize(
    ("taken", "back"),
    [
        (LOAD, None),
        (LoadAtBoot(), DontLoadAtBoot()),
        (DontLoadAtBoot(), None),
        (BindToPciback(address=NIC, driver="e1000e"), ReturnToDom0(address=NIC, driver="e1000e")),
        (BindToPciback(address=NIC, driver=None), ReturnToDom0(address=NIC, undriven=True)),
        (PLUG, Unplug(address=NIC, domain="pv1")),
        (ADD, RemoveFromConfig(address=NIC, domain="pv1")),
        (
            SwitchOn(domain="pv1", features=("passthrough",)),
            SwitchOff(domain="pv1", features=("passthrough",)),
        ),
        (Adopt(address=NIC, domain="pv1", alias=ALIAS, policy="p"), None),
        (Unplug(address=NIC, domain="pv1"), None),
        (ForceDetach(address=NIC, domain="pv1"), None),
        (RemoveFromConfig(address=NIC, domain="pv1"), None),
        (SwitchOff(domain="pv1", features=("passthrough",)), None),
        (ReturnToDom0(address=NIC), None),
    ],
)
def test_every_attaching_action_has_its_rollback_and_no_detaching_one_has(
    taken: Action, back: Action | None
) -> None:
    assert rollback_actions([taken]) == (() if back is None else (back,))


def test_what_was_done_last_is_taken_back_first() -> None:
    switch = SwitchOn(domain="pv1", features=("passthrough", "e820_host"))
    taken: list[Action] = [LOAD, BindToPciback(address=NIC, driver="e1000e"), PLUG, switch, ADD]
    assert rollback_actions(iter(taken)) == (
        RemoveFromConfig(address=NIC, domain="pv1"),
        SwitchOff(domain="pv1", features=("passthrough", "e820_host")),
        Unplug(address=NIC, domain="pv1"),
        ReturnToDom0(address=NIC, driver="e1000e"),
    )


def test_what_was_switched_off_in_so_many_words_is_so_again() -> None:
    xen = "<xen><e820_host state='off'/><passthrough state='off' mode='share_pt'/></xen>"
    before = (
        "<domain type='xen'><name>pv1</name><uuid>00000000-0000-0000-0000-000000000001</uuid>"
        f"<os><type>linux</type></os><features>{xen}</features><devices/></domain>"
    )
    switch = switch_on(document.domain(None, before), ("passthrough", "e820_host"))
    after = edited(switch, before)
    assert document.domain(None, after).features == ("passthrough", "e820_host")
    (back,) = rollback_actions([switch])
    assert document.domain(None, edited(back, after)) == document.domain(None, before)
    assert "mode" in edited(back, after)


def test_of_nothing_there_is_nothing_to_take_back() -> None:
    assert rollback_actions([]) == ()
