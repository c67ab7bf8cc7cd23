"""The simulated host as fixtures, and golden texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sim.dom0 import SimulatedHost
from sim.nodes import Store
from sim.sys_tree import SysTree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GOLDEN = Path(__file__).parents[1] / "golden"


def descriptors() -> int:
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture
def tree(tmp_path: Path) -> SysTree:
    return SysTree(tmp_path)


@pytest.fixture
def store() -> Store:
    return Store({})


@pytest.fixture
def host(tree: SysTree) -> Iterator[SimulatedHost]:
    """A card with its dom0 driver at 0000:01:00.0, and the running PV guest pv1."""
    host = SimulatedHost(tree)
    host.card("0000:01:00.0")
    host.guest("pv1", 1)
    yield host
    host.written.close()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares with tests/golden, or writes there with --regenerate-golden."""

    def same(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--regenerate-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return same
