"""The nested Xen host for tests: started once per dom0 release, given this checkout's cede, put back when asked."""

from collections import Counter
from collections.abc import Generator, Iterator

import pytest

from lab.host import Host
from xenlab.lab import Lab, State


class Faults:
    """What was done to cede on the real host, and how much of it cede survived; told at the end of the run."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()

    def tell(self, name: str, *, tried: int = 1, survived: int = 1) -> None:
        """Count one kind of fault."""
        self.tried[name] += tried
        self.survived[name] += survived


_FAULTS = Faults()


@pytest.fixture
def faults() -> Faults:
    """Where a test tells of the faults that it tried."""
    return _FAULTS


class Measured:
    """Figures that were measured on the real host; told at the end of the run."""

    def __init__(self) -> None:
        self.figures: list[str] = []

    def tell(self, figure: str) -> None:
        """Keep one figure, in words."""
        self.figures.append(figure)


_MEASURED = Measured()


@pytest.fixture
def measured() -> Measured:
    """Where a test tells of what it measured."""
    return _MEASURED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures, and the table of faults."""
    if _MEASURED.figures:
        terminalreporter.section("measured, on real Xen")
    for figure in _MEASURED.figures:
        terminalreporter.write_line(figure)
    if not _FAULTS.tried:
        return
    terminalreporter.section("faults tried and survived, on real Xen")
    for name, tried in _FAULTS.tried.items():
        terminalreporter.write_line(f"{tried:5d} {_FAULTS.survived[name]:5d}  {name}")


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
