"""A machine as `lspci` lists it, built below /sys: its functions, what each is behind, and how each resets.

A function is a mapping: `id` and `class`; `above`, the function whose bus it is on, or a root bus (`pci0000:80`; by
default that of its segment and bus), or `FUNCTION/ROOT BUS` for one that has a root bus behind it; `port`, of a bridge,
by the kind of port that its capability names; `reset`: flr, pm or none of its own, or null where its configuration
space can't be read; `driver`; `physical`, of a virtual function; `conventional`, for one that is no PCI Express;
`removable`; `ari`, on a bus where that is on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sim import config_spaces
from sim.config_spaces import E1000, E1000E, EXPRESS, IGB, VIRTUAL_FUNCTION, express
from sim.sys_tree import link, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sim.sys_tree import SysTree

# PCI Express Base Specification 3.0, 7.8.2
_PORTS = {"root": 4, "upstream": 5, "downstream": 6, "to-pci": 7}
_RESETS = {"flr": IGB, "pm": E1000E, "none": E1000, None: None}


def build(tree: SysTree, functions: Mapping[str, Mapping[str, Any]]) -> None:
    """Build the functions, each after those that it is behind."""
    for address, said in functions.items():
        above = str(said.get("above", f"pci{address.rsplit(':', 1)[0]}"))
        known = tree.sys / "bus/pci/devices" / above
        under = known.resolve() if known.exists() else tree.sys / "devices" / above
        if "/" in above:  # a root bus behind a function
            function, _, bus = above.partition("/")
            under = (tree.sys / "bus/pci/devices" / function).resolve() / bus
        path = tree.function(
            address,
            under=under,
            identity=said["id"],
            class_code=said["class"].ljust(6, "0"),
            driver=said.get("driver"),
            config=_space(said),
        )
        if not said.get("conventional"):
            write(path / "max_link_speed", "8.0 GT/s PCIe")
        if said.get("removable"):
            write(path / "removable", "removable")
        write(path / "ari_enabled", "1" if said.get("ari") else "0")
        if "physical" in said:
            link(path / "physfn", (tree.sys / "bus/pci/devices" / said["physical"]).resolve())


def _space(said: Mapping[str, Any]) -> bytes | None:
    if "port" in said:
        return config_spaces.space(
            said["id"], 0x060400, (0x40, EXPRESS, express(_PORTS[said["port"]], 0x8000))
        )
    if "physical" in said:
        return VIRTUAL_FUNCTION
    return _RESETS[said.get("reset", "none")]
