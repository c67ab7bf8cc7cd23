"""The nested Xen host for tests: started once per dom0 release, given this checkout's cede, put back when asked.

With several processes each has its own host.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import pytest

from lab.figures import FAULTS, MEASURED, Faults, Measured
from lab.host import Host, lab
from lab.host_scenes import PACKAGES
from xenlab.errors import LabError
from xenlab.machine import DEFAULT_RELEASE


@pytest.fixture
def faults() -> Faults:
    """Where a test tells of the faults that it tried."""
    return FAULTS


@pytest.fixture
def measured() -> Measured:
    """Where a test tells of what it measured."""
    return MEASURED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where a test fails, what cede and its dom0 said last stands before the traceback; that dom0 is used no more."""
    report: pytest.TestReport = yield
    if call.when != "teardown" and report.failed and item.get_closest_marker("lab"):
        said = []
        if call.excinfo is not None and isinstance(call.excinfo.value, LabError):
            said.append(call.excinfo.value.reported())
        for host in _HOSTS.values():
            if host.lab.is_running():
                host.dirty = True
                said += [f"{item.name} failed on {host.lab.release.suite}", host.last_words()]
        report.longrepr = "\n".join([*said, "", report.longreprtext])
    return report


_HOSTS: dict[str, Host] = {}


@pytest.fixture(scope="session")
def _ended() -> Iterator[None]:
    """No host of this process outlives its tests."""
    yield
    for host in _HOSTS.values():
        host.lab.down()


def _pristine(release: str, packages: Sequence[str] = ()) -> Host:
    """The host of that release, pristine; no other of this process runs, which would slow it down even if idle."""
    host = _HOSTS.setdefault(" ".join([release, *packages]), Host(lab(release, packages)))
    for other in _HOSTS.values():
        if other is not host and other.lab.is_running():
            other.lab.down()
    host.pristine()
    return host


def _as_left(host: Host) -> Host:
    """The host as tests leave it that put back what they touch; restored if another kind of test had it, or failed."""
    if host.dirty:
        host.pristine()
    return host


@pytest.fixture
def host(_ended: None) -> Host:
    """The default dom0, pristine, for one test."""
    found = _pristine(DEFAULT_RELEASE)
    found.dirty = True
    return found


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def _each_release(request: pytest.FixtureRequest, _ended: None) -> Host:
    return _pristine(request.param)


@pytest.fixture
def any_host(_each_release: Host) -> Host:
    """Each dom0 release in turn, pristine when a module begins: for tests that put back what they touch."""
    return _as_left(_each_release)


@pytest.fixture(scope="module")
def _shared(_ended: None) -> Host:
    return _pristine(DEFAULT_RELEASE)


@pytest.fixture
def shared_host(_shared: Host) -> Host:
    """The default dom0, pristine when a module begins: for tests that put back what they touch."""
    return _as_left(_shared)


@pytest.fixture
def storage_host(_ended: None) -> Host:
    """The default dom0 with programs for storage and networks that it can be a user of, pristine, for one test."""
    found = _pristine(DEFAULT_RELEASE, PACKAGES)
    found.dirty = True
    return found


@pytest.fixture
def no_host() -> None:
    """None of this process's hosts runs."""
    for host in _HOSTS.values():
        host.lab.down()
