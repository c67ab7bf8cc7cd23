"""What all tests share: the switches of pytest's command line, and what is told at the end."""

from __future__ import annotations

import pytest
from hypothesis import settings

from lab import told

# a loaded machine is no failure
settings.register_profile("cede", deadline=None)
settings.load_profile("cede")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--regenerate-golden",
        action="store_true",
        help="write what comes out to tests/golden instead of comparing with it; read the diff",
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told.summary(terminalreporter)
