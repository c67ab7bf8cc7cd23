"""A host in a file: what `cede devices --save` writes fits its schema, and `cede plan --host` reads it as strictly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from cede.util import schemas
from sim.config_spaces import E1000
from unit.test_cli import Shown, cede, policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sim.in_files import SimulatedHost

__all__ = ["cede", "policy"]  # fixtures


@pytest.fixture
def saved(cede: Callable[..., Shown], tmp_path: Path) -> Path:
    path = tmp_path / "host.json"
    assert cede("devices", "--save", str(path), on=None).status == 0
    return path


def fits(data: Any) -> bool:  # noqa: ANN401 - JSON is any
    return Draft202012Validator(schemas.load("inventory.schema.json")).is_valid(data)


def test_a_saved_host_fits_its_schema_before_and_after_an_attach(
    cede: Callable[..., Shown], host: SimulatedHost, tmp_path: Path
) -> None:
    disk = host.tree.function(
        "0000:00:03.0", driver="virtio-pci", class_code="010000", config=E1000
    )
    host.tree.mount("/", host.tree.disk("vda", disk))
    for command in (("apply", "--yes"), ("drain", "--yes"), ("resume", "--yes"), ("pause", "pv1")):
        cede(*command)
        path = tmp_path / f"{command[0]}.json"
        assert cede("devices", "--save", str(path), on=None).status == 0
        data = json.loads(path.read_text())
        Draft202012Validator(schemas.load("inventory.schema.json")).validate(data)
    assert [pause["target"] for pause in data["inventory"]["pauses"]] == ["pv1"]
    assert data["inventory"]["devices"][0]["uses"][0]["guard"] == "filesystem"


def test_a_saved_host_gives_the_plan_of_the_host_itself(
    cede: Callable[..., Shown], saved: Path
) -> None:
    here, elsewhere = cede("plan", "--json"), cede("plan", "--host", str(saved), "--json")
    assert elsewhere.status == here.status == 4
    assert elsewhere.json("plan") == here.json("plan")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("version",), 2),
        (("inventory", "surprise"), 1),
        (("inventory", "devices", 0, "address"), "somewhere"),
        (("inventory", "devices", 0, "driver"), 1),
        (("inventory", "devices", 0, "uses"), {}),
        (("inventory", "domains", 0, "kind"), "lxc"),
        (("inventory", "domains", 0, "features"), ["magic"]),
        (("inventory", "domains", 0, "memory"), "much"),
    ],
)
def test_what_does_not_fit_the_schema_is_not_read(
    cede: Callable[..., Shown], saved: Path, place: tuple[str | int, ...], value: object
) -> None:
    data = json.loads(saved.read_text())
    assert fits(data)
    inside = data
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = value
    assert not fits(data)
    saved.write_text(json.dumps(data))
    shown = cede("plan", "--host", str(saved))
    assert (shown.status, shown.out, str(saved) in shown.err) == (2, "", True)
