"""The way back from a step that was taken, as steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.plan.steps import (
    AddToConfig,
    DontLoadAtBoot,
    GiveBack,
    HotPlug,
    LoadAtBoot,
    RemoveFromConfig,
    Seize,
    Step,
    SwitchOff,
    SwitchOn,
    Unplug,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


def undo(taken: Iterable[Step]) -> tuple[Step, ...]:
    """The steps that take back those `taken`, the last one first.

    What is harmless stays: a loaded module, a mark on a hostdev that was adopted. A way out is never taken back.
    """
    return tuple(back for step in reversed(tuple(taken)) if (back := _back(step)) is not None)


def _back(step: Step) -> Step | None:
    match step:
        case LoadAtBoot():
            return DontLoadAtBoot()
        case Seize():
            return GiveBack(address=step.address, driver=step.driver, undriven=step.driver is None)
        case HotPlug():
            return Unplug(address=step.address, domain=step.domain)
        case AddToConfig():
            return RemoveFromConfig(address=step.address, domain=step.domain)
        case SwitchOn():
            return SwitchOff(domain=step.domain, features=step.features)
        case _:
            return None
