"""What all tests share: the switches of pytest's command line, the order of tests, and what is reported at the end."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest
from hypothesis import settings

from lab import figures

# a loaded machine is no failure
settings.register_profile("cede", deadline=None)
settings.load_profile("cede")

_FIGURES = "lab"
_FAILED: list[str] = []
_REASON_LENGTH = 600


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="write what comes out to tests/golden and schemas instead of comparing with it; read the diff",
    )
    parser.addoption(
        "--soak",
        action="store_true",
        help="what is statistical is done as often as it takes to trust it: random kills, restarts, passes",
    )


def pytest_itemcollected(item: pytest.Item) -> None:
    """The floor of the coverage counts what is reached each time, and not what examples made at random reach.

    To count that costs as much time as all else that is counted.
    """
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        item.add_marker("no_cover")


@pytest.hookimpl(trylast=True)  # when those that are not chosen have gone
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each process begins with its share of the long tests, so that none is left alone at the end of a run.

    pytest-xdist's worksteal gives each process an equal number of tests, in their order, and lets idle ones steal from
    the end of another's queue (xdist/scheduler/worksteal.py, check_schedule).
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    shares: list[list[pytest.Item]] = [[] for _ in range(processes)]
    for item in sorted(filter(_minutes, items), key=_minutes, reverse=True):
        min(shares, key=lambda share: sum(map(_minutes, share))).append(item)
    short = [item for item in items if not _minutes(item)]
    ordered: list[pytest.Item] = []
    for number, share in enumerate(shares):
        size = (len(items) - len(ordered)) // (processes - number)
        room = max(0, size - len(share))
        ordered += [*share, *short[:room]]
        short = short[room:]
    items[:] = [*ordered, *short]


def _minutes(item: pytest.Item) -> int:
    """About how long a long test takes; 0 for the others."""
    marker = item.get_closest_marker("long")
    return 0 if marker is None else int(marker.args[0])


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the statistical tests are asked for in full."""
    return bool(request.config.getoption("--soak"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What a process that runs tests for another has to tell goes to that other one."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_FIGURES] = figures.reported()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A failed test's reason is printed when it fails, not only at the end of a run that may be cut off."""
    if not report.failed:
        return
    lines = report.longreprtext.splitlines()
    reason = [line[1:].strip() for line in lines if line.startswith("E ")] or lines[-1:]
    _FAILED.append(f"{report.nodeid} ({report.when}): {' '.join(reason)[:_REASON_LENGTH]}")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        sys.stderr.write(f"\n{_FAILED[-1]}\n")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The names of what failed are the last lines: what is long stands before them."""
    if not hasattr(config, "workerinput"):
        sys.stderr.writelines(f"== failed: {failed}\n" for failed in _FAILED)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - pytest-xdist has no types
    received = getattr(node, "workeroutput", {}).get(_FIGURES)
    if received is not None:
        figures.add(received)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures.summary(terminalreporter)
