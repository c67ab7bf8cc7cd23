"""What is wrong with a libvirtd or xenstored that is silent, by what the kernel tells of its process."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from cede.adapters.linux.shared_daemons import SharedDaemons
from cede.errors import LIBVIRT_SILENT, CedeError, HungError, PermanentError, UnreachableError
from cede.util.clock import Clock

if TYPE_CHECKING:
    from pathlib import Path

SILENT = HungError("libvirt, listing its domains, has hung for 60 s", name=LIBVIRT_SILENT)
REFUSES = UnreachableError("libvirt does not answer: no such file", name="libvirt-unreachable")
XENSTORE = UnreachableError("xenstore gave no answer", name="xenstore-unreachable")
XENSTORE.__cause__ = TimeoutError("it was silent for 30 s")


@dataclass
class Dom0:
    """dom0's processes, and a clock that only moves when cede waits; `ticks` are used meanwhile."""

    root: Path
    ticks: int = 0
    now: float = 0.0
    used: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder in ("proc", "run", "logs"):
            (self.root / folder).mkdir()
        (self.root / "proc/stat").write_text("cpu  1 2 3\n")

    def process(self, pid: int, comm: str, state: str = "S", socket: str = "") -> None:
        (self.root / f"proc/{pid}").mkdir()
        (self.root / f"proc/{pid}/comm").write_text(f"{comm}\n")
        self.used[pid] = 1000
        self.stat(pid, comm, state)
        if socket:
            path = self.root / "run" / socket
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def stat(self, pid: int, comm: str, state: str) -> None:
        (self.root / f"proc/{pid}/stat").write_text(
            f"{pid} ({comm} (x) y) {state} 1 1 1 0 -1 4194560 1 1 1 1 {self.used[pid]} 7 0 0 20 0\n"
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for pid in self.used:
            self.used[pid] += self.ticks
            path = self.root / f"proc/{pid}"
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            self.stat(pid, (path / "comm").read_text().strip(), state)

    def explain(self, error: CedeError) -> CedeError:
        clock = Clock(monotonic=lambda: self.now, sleep=self.sleep)
        root = self.root
        return SharedDaemons(root / "proc", root / "run", root / "logs", clock).explain(error)


@pytest.fixture
def dom0(tmp_path: Path) -> Dom0:
    return Dom0(tmp_path)


LIBVIRT = "libvirt/libvirt-sock"


@pytest.mark.parametrize("error", [SILENT, HungError("looking at the host has hung")])
def test_a_libvirtd_whose_processor_time_grows_spins_and_is_restarted(
    dom0: Dom0, error: CedeError
) -> None:
    dom0.process(7, "libvirtd", "R", LIBVIRT)
    dom0.ticks = 50  # of 100 in a second
    found = dom0.explain(error)
    assert (found.name, type(found), found.kind) == ("libvirt-spinning", type(error), error.kind)
    assert "pid 7" in found.message
    assert "systemctl restart libvirtd" in found.remedy
    assert dom0.now <= 1.0


def test_a_libvirtd_that_waits_is_blocked_and_the_domain_is_named(dom0: Dom0) -> None:
    dom0.process(7, "virtxend", "S", "libvirt/virtxend-sock")
    for name, age in (("pv1.log", 1), ("pv2.log", 2), ("libxl-driver.log", 3)):
        path = dom0.root / "logs" / name
        path.touch()
        os.utime(path, (age, age))
    found = dom0.explain(SILENT)
    assert found.name == "libvirt-blocked"
    assert "pv2" in found.message
    assert "systemctl restart virtxend" in found.remedy


@pytest.mark.parametrize("error", [REFUSES, HungError("looking at the host has hung")])
def test_a_libvirtd_that_waits_is_not_to_blame_where_it_refused_or_something_else_hung(
    dom0: Dom0, error: CedeError
) -> None:
    dom0.process(7, "libvirtd", "S", LIBVIRT)
    assert dom0.explain(error) is error


def test_a_libvirtd_that_refuses_while_it_computes_has_answered(dom0: Dom0) -> None:
    dom0.process(7, "libvirtd", "R", LIBVIRT)
    dom0.ticks = 50
    assert dom0.explain(REFUSES) is REFUSES


def test_a_stopped_daemon_is_continued(dom0: Dom0) -> None:
    dom0.process(7, "libvirtd", "T", LIBVIRT)
    found = dom0.explain(SILENT)
    assert (found.name, found.remedy) == ("libvirt-stopped", "kill -CONT 7")


def test_a_daemon_without_process_or_without_socket_is_gone(dom0: Dom0) -> None:
    assert dom0.explain(REFUSES).name == "libvirt-gone"
    assert dom0.explain(REFUSES).remedy == "systemctl start libvirtd"
    dom0.process(7, "libvirtd")
    assert dom0.explain(REFUSES).name == "libvirt-gone"


@pytest.mark.parametrize(
    ("state", "ticks", "name"),
    [("R", 50, "spinning"), ("S", 0, "blocked"), ("D", 0, "blocked"), ("T", 0, "stopped")],
)
def test_xenstored_alike_and_a_restart_is_never_its_remedy(
    dom0: Dom0, state: str, ticks: int, name: str
) -> None:
    dom0.process(9, "oxenstored", state, "xenstored/socket")
    dom0.ticks = ticks
    found = dom0.explain(XENSTORE)
    assert found.name == f"xenstore-{name}"
    assert "systemctl restart" not in found.remedy


def test_a_xenstored_that_left_its_socket_behind_is_gone_and_one_in_a_domain_of_its_own_may_not_be(
    dom0: Dom0,
) -> None:
    assert dom0.explain(XENSTORE) is XENSTORE
    (dom0.root / "run/xenstored").mkdir()
    (dom0.root / "run/xenstored/socket").touch()
    assert dom0.explain(XENSTORE).name == "xenstore-gone"


def test_what_is_no_daemons_silence_is_returned_as_it_is(dom0: Dom0) -> None:
    error = PermanentError("no", name="wrong")
    assert dom0.explain(error) is error
    assert dom0.now == 0.0


@pytest.mark.parametrize(
    "stat", ["", "7 (libvirtd", "7 (libvirtd) S 1", "7 (libvirtd) S" + " 9" * 9000]
)
def test_a_process_that_ends_meanwhile_or_cant_be_read_is_gone(dom0: Dom0, stat: str) -> None:
    dom0.process(7, "libvirtd", "S", LIBVIRT)
    dom0.stat = lambda *_: None  # type: ignore[method-assign]
    dom0.used.clear()
    (dom0.root / "proc/7/stat").write_text(stat)
    assert dom0.explain(SILENT).name in {"libvirt-gone", "libvirt-blocked"}
