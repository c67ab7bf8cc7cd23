"""The simulated host as fixtures, and golden texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sim.in_files import SimulatedHost
from sim.sys_tree import SysTree
from sim.xenstore_nodes import Store
from unit.fake_xenstored import FakeXenstored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.runtime import Runtime

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
    """Two like cards with their dom0 driver, at 0000:01:00.0 and 0000:02:00.0; the running PV guests pv1 and pv2."""
    host = SimulatedHost(tree)
    for address in ("0000:01:00.0", "0000:02:00.0"):
        host.card(address)
    for domid, name in enumerate(("pv1", "pv2"), 1):
        host.guest(name, domid)
    yield host
    host.written.close()


@pytest.fixture
def runtime_of(host: SimulatedHost) -> Callable[[], Runtime]:
    """Makes the runtime of a command on the host; a module may have its own, which makes the agent do it."""
    return host.runtime


@pytest.fixture
def xenstored(tmp_path: Path) -> Iterator[FakeXenstored]:
    made = FakeXenstored(tmp_path / "socket")
    yield made
    made.close()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compares with tests/golden, or writes there with --regenerate-golden."""

    def same(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--regenerate-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return same
