"""What all tests share: the switches of pytest's command line, and what is told at the end."""

from __future__ import annotations

import pytest
from hypothesis import settings

from lab import told

# a loaded machine is no failure
settings.register_profile("cede", deadline=None)
settings.load_profile("cede")

TURNS = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="write what comes out to tests/golden instead of comparing with it; read the diff",
    )
    parser.addoption(
        "--turn", type=int, choices=range(TURNS), help="of the tests that take turns run only these"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    turn = config.getoption("--turn")
    if turn is None:
        return
    waiting = [
        item for item in items if any(mark.args != (turn,) for mark in item.iter_markers("turn"))
    ]
    config.hook.pytest_deselected(items=waiting)
    items[:] = [item for item in items if item not in waiting]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told.summary(terminalreporter)
