"""`cede devices`: every PCI device with what helps to choose one."""

from __future__ import annotations

from pathlib import Path

import click

from cede.adapters.linux.device_nodes import device_nodes
from cede.adapters.linux.pci_ids import PciIds
from cede.adapters.runtime import Runtime
from cede.cli import device_output
from cede.cli.exit_status import Exit
from cede.cli.options import json_option
from cede.errors import PolicyError, UsageError
from cede.model.inventory import Inventory
from cede.model.pci import Address, Device
from cede.model.policy import Policy
from cede.model.serialization import dumps
from cede.policy.policy_files import host_policy_if_any
from cede.services import snapshot
from cede.services.describe_devices import DevicesOutput, describe_device, vanished_devices
from cede.services.observe import observe_host
from cede.services.one_off import no_such_device


@click.command("devices")
@json_option
@click.option(
    "--long", "at_length", is_flag=True,
    help="Show all about each device: reason and remedy, resets, siblings. [default where a DEVICE is named]",
)  # fmt: skip
@click.option(
    "--save", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="Save what is known of this host as JSON, for `cede plan --host FILE` on another machine.",
)  # fmt: skip
@click.argument("devices", metavar="[DEVICE]...", nargs=-1)
@click.pass_obj
def devices_command(
    runtime: Runtime, as_json: bool, at_length: bool, file: Path | None, devices: tuple[str, ...]
) -> int:
    """List every PCI device, or each DEVICE by its address: what it is, who has it, and whether a guest can have it.

    FIT is the planner's answer for a running PV guest that was started with passthrough: `yes`; `no` and why; or
    `with` another device, where both can only go together, to a guest at its start.
    """
    with runtime.adapters() as adapters:
        inventory = observe_host(adapters)
        nodes = device_nodes(runtime.paths.sys)
    if file is not None:
        snapshot.save(inventory, file)
    chosen = [_named(text, inventory) for text in devices] or inventory.devices
    policy, ids = _policy(runtime), PciIds(runtime.paths.pci_ids)
    rows = tuple(
        describe_device(
            device, inventory, policy, ids.names(device.identity), nodes.get(device.address, ())
        )
        for device in chosen
    )
    gone = () if devices else vanished_devices(inventory)
    if as_json:
        click.echo(dumps(DevicesOutput(devices=rows, vanished=gone)))
    elif at_length or devices:
        device_output.at_length(rows, gone)
    else:
        device_output.table(rows, gone)
    return Exit.OK


def _named(text: str, inventory: Inventory) -> Device:
    try:
        device = inventory.device(Address.parse(text))
    except ValueError as error:
        raise UsageError(str(error), name="no-address") from error
    if device is None:
        raise no_such_device(text)
    return device


def _policy(runtime: Runtime) -> Policy:
    """Read the host's policy, for what it protects; warn and return an empty one where it can't be read."""
    try:
        return host_policy_if_any(None, runtime.paths)
    except PolicyError as error:
        click.echo(
            f"cede: the policy is wrong, so its `protect` is left out: {error.message}", err=True
        )
        return Policy()
