"""What all tests share: the switches of pytest's command line, and what is told at the end.

The process that speaks for several (pytest-xdist) reads no other conftest.py than this.
"""

from __future__ import annotations

from typing import Any

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


def pytest_configure(config: pytest.Config) -> None:
    """Listen to the other processes if there are any."""
    if config.pluginmanager.hasplugin("dsession"):
        config.pluginmanager.register(_FromOthers())


class _FromOthers:
    """Hooks that only pytest-xdist knows of."""

    def pytest_testnodedown(self, node: Any) -> None:  # noqa: ANN401 - xdist has no types
        told.take_over(getattr(node, "workeroutput", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        told.hand_over(output)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    told.summary(terminalreporter)
