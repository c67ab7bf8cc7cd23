"""What devices and domains are called, for completion: as the last pass saw them, so that asking calls nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede.api.operation_resources import as_json
from cede.api.outputs import NamesOutput, PublicNames
from cede.api.routes import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.api.messages import Request, Response
    from cede.planner.resolve import Targets

_PATH = "/v1/names"


class Names:
    """`/v1/names`: at the read-only socket without what only the policy knows."""

    def __init__(self) -> None:
        self._every = NamesOutput(devices=(), domains=())
        self._public = PublicNames(devices=(), domains=())

    def observed(self, targets: Targets) -> None:
        """Remember what a pass has seen."""
        inventory = targets.inventory
        addresses = tuple(device.address for device in inventory.devices)
        domains = tuple(sorted(domain.name for domain in inventory.domains))
        in_policy = sorted(device.name for device in targets.policy.devices)
        self._every = NamesOutput(devices=(*in_policy, *map(str, addresses)), domains=domains)
        self._public = PublicNames(devices=addresses, domains=domains)

    def routes(self) -> Iterator[Route]:
        """Yield who answers root and the agent's group."""
        yield Route(method="GET", path=_PATH, answer=self._get_every)

    def public_routes(self) -> Iterator[Route]:
        """Yield who answers anybody."""
        yield Route(method="GET", path=_PATH, answer=self._get_public)

    def _get_every(self, request: Request, _place: str) -> Response:
        return as_json(request, self._every)

    def _get_public(self, request: Request, _place: str) -> Response:
        return as_json(request, self._public)
