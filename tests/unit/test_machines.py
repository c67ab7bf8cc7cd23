"""What cede says of machines whose listings were published (tests/machines): what goes together, what may go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cede.adapters.linux.sysfs import Sysfs
from cede.commands import devices
from cede.commands.screen import echo
from cede.model.inventory import Inventory
from cede.model.pci import Address, Names
from cede.model.policy import Policy
from cede.planner.fitness import FitKind, fitness
from cede.planner.resets import groups
from cede.services.describe_devices import describe_device
from sim import listed_machine
from sim.sys_tree import SysTree

if TYPE_CHECKING:
    from cede.model.pci import Device
    from cede.planner.fitness import Fitness

MACHINES = sorted((Path(__file__).parent.parent / "machines").glob("*.yaml"))
GOLDEN = Path(__file__).parent.parent / "golden/device_trees.txt"


def machine(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"source", "vendor", "assumed"} <= said.keys()
    return said


def observed(said: dict[str, Any], tree: SysTree) -> Inventory:
    listed_machine.build(tree, said["functions"])
    return Inventory(devices=Sysfs(tree.sys).devices())


def of(inventory: Inventory, address: str) -> Device:
    found = inventory.device(Address.parse(address))
    assert found is not None
    return found


def spoken(fit: Fitness) -> str | list[str]:
    if fit.fit is FitKind.TOGETHER:
        return [str(address) for address in fit.together]
    return fit.rule or fit.fit.value


def draw(inventory: Inventory) -> None:
    together = groups(inventory)
    rows = [
        describe_device(one, inventory, Policy(), Names(), together.get(one.address, ()))
        for one in inventory.devices
    ]
    devices.tree(rows, ())


@pytest.mark.parametrize("path", MACHINES, ids=lambda path: path.stem)
def test_a_published_machine_has_the_groups_and_the_fitness_that_follow_from_its_shape(
    path: Path, tree: SysTree
) -> None:
    said = machine(path)
    inventory = observed(said, tree)
    assert [str(device.address) for device in inventory.devices] == sorted(
        said["functions"], key=Address.parse
    )
    found = dict.fromkeys(groups(inventory).values())
    assert [[str(address) for address in group] for group in found] == said["groups"]
    fits = {
        address: spoken(fitness(of(inventory, address), inventory, Policy()))
        for address in said["fit"]
    }
    assert fits == said["fit"]


def test_functions_above_7_of_an_ari_device_belong_to_the_same_card(tree: SysTree) -> None:
    """Linux shows function 8 as 01.0; without ARI that is another device."""
    above = {"id": "8086:6f04", "class": "0604", "port": "root"}
    nic = {"id": "14e4:16d7", "class": "0200", "reset": "flr"}
    for bus, ari in (("11", True), ("12", False)):
        functions: dict[str, dict[str, Any]] = {f"0000:00:{bus}.0": above}
        for place in ("00.0", "00.7", "01.0"):
            functions[f"0000:{bus}:{place}"] = {**nic, "above": f"0000:00:{bus}.0", "ari": ari}
        listed_machine.build(tree, functions)
    inventory = Inventory(devices=Sysfs(tree.sys).devices())
    first, second = of(inventory, "11:00.0"), of(inventory, "12:00.0")
    assert [of(inventory, f"11:{at}").same_card(first) for at in ("00.7", "01.0")] == [True, True]
    assert [of(inventory, f"12:{at}").same_card(second) for at in ("00.7", "01.0")] == [True, False]
    assert not first.same_card(second)


def test_where_no_reset_is_known_the_tree_says_of_no_group_that_there_is_none(
    tree: SysTree, capsys: pytest.CaptureFixture[str]
) -> None:
    port = {"id": "8086:1e16", "class": "0604", "port": "root"}
    function = {"id": "197b:2391", "class": "0805", "above": "0000:00:1c.3", "reset": None}
    functions = {"0000:00:1c.3": port, "0000:24:00.0": function, "0000:24:00.1": function}
    draw(observed({"functions": functions}, tree))
    drawn = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [line[line.index("dom0") - 1] for line in drawn] == ["?", "?"]


def test_the_trees_of_published_machines_are_the_golden_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    for path in MACHINES:
        inventory = observed(machine(path), SysTree(tmp_path / path.stem))
        echo(f"== {path.stem}")
        draw(inventory)
        echo()
    said = capsys.readouterr().out
    if request.config.getoption("--regenerate-golden"):
        GOLDEN.write_text(said, encoding="utf-8")
    assert said == GOLDEN.read_text(encoding="utf-8")
