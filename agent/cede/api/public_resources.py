"""What the read-only socket shows to anybody: of host, devices and status what `virsh -r` and sysfs show.

Nothing else is there: who opens that socket may not even learn which policy is followed, or what dom0 itself uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cede import __version__
from cede.api.operation_resources import as_json
from cede.api.outputs import PublicDevice, PublicDevices, PublicHost, PublicStatus
from cede.api.questions import SharedAnswers
from cede.api.routes import Route
from cede.commands.devices import named_device
from cede.services.observe import observe_host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cede.adapters.runtime import Runtime
    from cede.api.messages import Request, Response
    from cede.model.inventory import Inventory
    from cede.model.pci import Device


class PublicResources:
    """`/v1/host`, `/v1/devices` and `/v1/status` for anybody.

    One observation is made at a time, for all who ask, and then none for as long as it took: who asks without end has
    half of a processor at most.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._shared = SharedAnswers(at_once=1)
        self._rests_until = 0.0

    def routes(self) -> Iterator[Route]:
        """Yield who answers what."""
        yield Route(method="GET", path="/v1/host", answer=self._host)
        yield Route(method="GET", path="/v1/devices", answer=self._devices)
        yield Route(method="GET", path="/v1/devices/{address}", answer=self._device)
        yield Route(method="GET", path="/v1/status", answer=self._status)

    def _host(self, request: Request, _place: str) -> Response:
        return as_json(request, PublicHost(version=__version__))

    def _devices(self, request: Request, _place: str) -> Response:
        inventory = self._observe()
        devices = tuple(_public(inventory, device) for device in inventory.devices)
        return as_json(request, PublicDevices(devices=devices))

    def _device(self, request: Request, place: str) -> Response:
        inventory = self._observe()
        return as_json(
            request, PublicDevices(devices=(_public(inventory, named_device(place, inventory)),))
        )

    def _status(self, request: Request, _place: str) -> Response:
        inventory = self._observe()
        every = (_public(inventory, device) for device in inventory.devices)
        assigned = tuple(each for each in every if each.running_in or each.assigned_to)
        return as_json(request, PublicStatus(devices=assigned))

    def _observe(self) -> Inventory:
        return self._shared.get("inventory", self._observe_now)

    def _observe_now(self) -> Inventory:
        clock = self._runtime.clock
        clock.sleep(max(0.0, self._rests_until - clock.monotonic()))
        began = clock.monotonic()
        try:
            with self._runtime.adapters() as adapters:
                return observe_host(adapters)
        finally:
            ended = clock.monotonic()
            self._rests_until = ended + (ended - began)


def _public(inventory: Inventory, device: Device) -> PublicDevice:
    wanting = inventory.wanting(device.address)
    return PublicDevice(
        address=device.address,
        identity=device.identity,
        driver=device.driver,
        running_in=tuple(d.name for d in wanting if d.live_hostdev(device.address)),
        assigned_to=tuple(d.name for d in wanting if d.config_hostdev(device.address)),
    )
