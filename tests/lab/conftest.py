"""The nested Xen host for tests: started once per dom0 release, given this checkout's cede, put back when asked."""

from collections.abc import Generator, Iterator

import pytest

from lab.host import Host
from lab.told import FAULTS, MEASURED, Faults, Measured
from xenlab.lab import Lab, State


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


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def any_host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """Each dom0 release in turn, pristine when a module begins; stopped after it if it was down before."""
    yield from _host(request.param)


@pytest.fixture(scope="session")
def _trixie() -> Iterator[Host]:
    yield from _host("trixie")


@pytest.fixture
def host(_trixie: Host) -> Host:
    """The default dom0, pristine."""
    _trixie.pristine()
    return _trixie


def _host(release: str) -> Iterator[Host]:
    lab = Lab(release=release)
    was_down = lab.state() is State.ABSENT
    host = Host(lab)
    try:
        host.pristine()
        yield host
    finally:
        if was_down:
            lab.down()
