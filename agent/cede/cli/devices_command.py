"""`cede devices`: every PCI device with what helps to choose one."""

from __future__ import annotations

import click

from cede.cli.options import file_path, json_option, names_of
from cede.cli.performing import perform
from cede.cli.session import Caller


@click.command("devices")
@json_option
@click.option(
    "--long", "at_length", is_flag=True,
    help="Show all about each device: reason and remedy, resets, siblings. [default where a DEVICE is named]",
)  # fmt: skip
@click.option(
    "--tree", "as_tree", is_flag=True,
    help="Show the devices below their ports and bridges, and in groups what can only go together.",
)  # fmt: skip
@click.option(
    "--save", type=click.Path(), callback=file_path, metavar="FILE",
    help="Save what is known of this host as JSON, for `cede plan --host FILE` on another machine.",
)  # fmt: skip
@click.argument("devices", metavar="[DEVICE]...", nargs=-1, shell_complete=names_of("devices"))
@click.pass_obj
def devices_command(
    caller: Caller,
    as_json: bool,
    at_length: bool,
    as_tree: bool,
    save: str,
    devices: tuple[str, ...],
) -> int:
    """List every PCI device, or each DEVICE by its address: what it is, who has it, and whether a guest can have it.

    FIT is the planner's answer for a running PV guest that was started with passthrough: `yes`; `no` and why; or
    `with` another device, where both can only go together, to a guest at its start.
    """
    fields = {"devices": devices, "long": at_length, "tree": as_tree, "save": save}
    return perform(caller, "devices", fields, as_json=as_json).exit
