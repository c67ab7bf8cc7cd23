"""What all played ports share: the host, its gate, and actions in stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.errors import WorldMovedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cede.model.pci import Address
    from sim.card import Card
    from sim.guest import Guest
    from sim.host import Host

Stages = list["Callable[[], object]"]


def sets(thing: object, **values: object) -> Callable[[], None]:
    """One stage of an action: the thing has these values from then on."""

    def stage() -> None:
        for name, value in values.items():
            setattr(thing, name, value)

    return stage


class Port:
    """A port over the host's state; what dom0 itself lives on is never to be acted on."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._gate = host.gate

    def _card(self, address: Address) -> Card:
        card = self._host.cards[address]
        assert not self._host.lives_on(card), f"{address} is what dom0 lives on"
        return card

    def _guest(self, name: str) -> Guest:
        if name not in self._host.guests:
            raise WorldMovedError(f"no domain {name}")
        return self._host.guests[name]
