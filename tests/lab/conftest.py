"""The nested Xen host for tests: started once per dom0 release, given this checkout's cede, put back when asked."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from lab.host import Host, lab
from lab.told import FAULTS, MEASURED, Faults, Measured
from xenlab.lab import State


@pytest.fixture
def faults() -> Faults:
    """Where a test tells of the faults that it tried."""
    return FAULTS


@pytest.fixture
def measured() -> Measured:
    """Where a test tells of what it measured."""
    return MEASURED


_LAST_WORDS = (
    "virsh -q -c xen:///system list --all; xl dmesg | tail -n 15; dmesg | tail -n 15;"
    " tail -n 5 /var/log/libvirt/libxl/*.log /var/log/xen/qemu-dm-*.log"
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a test fails, what its dom0 and its guests said last is told with it."""
    report: pytest.TestReport = yield
    if call.when == "call" and report.failed and isinstance(item, pytest.Function):
        for host in item.funcargs.values():
            if isinstance(host, Host):
                report.sections.append((host.lab.release.suite, host.last_words(_LAST_WORDS)))
    return report


_UP: list[Host] = []


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def any_host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Each dom0 release in turn, pristine when a module begins; stopped after it if it was down before."""
    with _running(request.param) as host:
        _alone(host)
        yield host


@pytest.fixture(scope="session")
def _trixie() -> Iterator[Host]:
    with _running("trixie") as host:
        yield host


@pytest.fixture
def host(_trixie: Host) -> Host:
    """The default dom0, pristine."""
    _alone(_trixie)
    return _trixie


@contextmanager
def _running(release: str) -> Iterator[Host]:
    host = Host(lab(release))
    was_down = host.lab.state() is State.ABSENT
    _UP.append(host)
    try:
        yield host
    finally:
        _UP.remove(host)
        if was_down:
            host.lab.down()


def _alone(host: Host) -> None:
    """Pristine, and the only one that runs: a second one, if only idle, would slow it down."""
    for other in _UP:
        if other.lab.folder != host.lab.folder:
            other.lab.down()
    host.pristine()
