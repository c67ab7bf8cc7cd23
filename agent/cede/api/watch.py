"""The watch: what changes on the host, as events that any number of clients follow."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING

from cede.api.feed import Feed
from cede.api.problems import RequestError
from cede.model.conditions import changed_conditions
from cede.model.serialization import plain
from cede.util.text import number

if TYPE_CHECKING:
    from cede.api.feed import Follower
    from cede.api.outputs import OperationOutput
    from cede.model.conditions import Condition
    from cede.model.inventory import Inventory
    from cede.model.pci import Address

_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a device is."""

    driver: str | None
    domain: str | None


class Watch:
    """Makes events of what a pass or an operation has changed.

    A token names an event of this agent; another agent, after a restart, knows none of them.
    """

    def __init__(self) -> None:
        self._agent = secrets.token_hex(4)
        self._feed = Feed(_BYTES, lambda number: {"token": self._token(number)})
        self._lock = Lock()
        self._conditions: tuple[Condition, ...] = ()
        self._places: dict[Address, _Place] | None = None

    def _token(self, number: int) -> str:
        return f"{self._agent}.{number}"

    def follow(self, token: str) -> Follower:
        """Return the stream of the events after the one that `token` names, of those to come if it is empty.

        Its first line has a token alone: from there on nothing is missed.

        Raises RequestError with the name `events-gone` if that can't be told any more.
        """
        if not token:
            return self._feed.follow(None, self._now)
        agent, _, text = token.partition(".")
        after = number(text) if agent == self._agent else None
        if after is None:
            raise RequestError(
                "the token is not of this agent, or of one before its restart",
                name="events-gone",
                status=HTTPStatus.GONE,
                remedy="look at the state as it is now, and follow from there on, without a token",
            )
        return self._feed.follow(after, self._now)

    def _now(self, number: int) -> bytes:
        return json.dumps({"token": self._token(number), "kind": "now"}).encode() + b"\n"

    def observed(self, inventory: Inventory) -> None:
        """Tell of each device that has come, gone, or has another driver or another guest than before."""
        places = {
            device.address: _Place(driver=device.driver, domain=_holder(inventory, device.address))
            for device in inventory.devices
        }
        with self._lock:
            before, self._places = self._places, places
        if before is None:
            return
        for address in sorted(before.keys() | places.keys()):
            place = places.get(address)
            if place != before.get(address):
                self._feed.put(
                    {
                        "kind": "device",
                        "address": str(address),
                        "present": place is not None,
                        "driver": None if place is None else place.driver,
                        "domain": None if place is None else place.domain,
                    }
                )

    def assessed(self, conditions: Iterable[Condition]) -> None:
        """Tell of each condition that is another one than before."""
        now = tuple(conditions)
        with self._lock:
            before, self._conditions = self._conditions, now
        for condition in changed_conditions(before, now):
            self._feed.put({"kind": "condition", "condition": plain(condition)})

    def operated(self, operation: OperationOutput) -> None:
        """Tell of an operation that has begun or ended."""
        self._feed.put(
            {
                "kind": "operation",
                "id": operation.id,
                "command": operation.command,
                "state": operation.state.value,
                "exit": operation.exit,
            }
        )

    def close(self) -> None:
        """End the stream of everybody."""
        self._feed.end()


def _holder(inventory: Inventory, address: Address) -> str | None:
    given = inventory.given(address)
    domain = None if given is None else inventory.domain_by_id(given.domid)
    return None if domain is None else domain.name
