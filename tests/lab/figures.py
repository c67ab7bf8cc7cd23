"""What lab tests have to tell beside passing: figures, and a table of faults."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class Faults:
    """What was done to cede on the real host, and how much of it cede survived; reported at the end of the run."""

    def __init__(self) -> None:
        self._tried: Counter[str] = Counter()
        self._survived: Counter[str] = Counter()

    @contextmanager
    def tried(self, name: str, *, times: int = 1) -> Iterator[None]:
        """Count a fault that the block makes; it is survived once the block, with its assertions, has ended."""
        self.count(name, tried=times, survived=0)
        yield
        self.count(name, tried=0, survived=times)

    def count(self, name: str, *, tried: int, survived: int) -> None:
        """Count faults of one kind whose ends were found out one by one."""
        self._tried[name] += tried
        self._survived[name] += survived

    def counts(self) -> dict[str, tuple[int, int]]:
        """How often each kind was tried, and how often survived."""
        return {name: (tried, self._survived[name]) for name, tried in self._tried.items()}

    def table(self) -> list[str]:
        """One line for each kind: how often it was tried, how often survived, and its name."""
        return [
            f"{tried:5d} {survived:5d}  {name}" for name, (tried, survived) in self.counts().items()
        ]


class Measured:
    """Figures that were measured on the real host; reported at the end of the run."""

    def __init__(self) -> None:
        self.figures: list[str] = []

    def report(self, figure: str) -> None:
        """Keep one figure, in words."""
        self.figures.append(figure)


FAULTS = Faults()
MEASURED = Measured()


def reported() -> dict[str, Any]:
    """All that this process has to report, for the process that it runs tests for."""
    return {"faults": FAULTS.counts(), "measured": MEASURED.figures}


def add(of: dict[str, Any]) -> None:
    """Add what another process has reported."""
    for name, (tried, survived) in of["faults"].items():
        FAULTS.count(name, tried=tried, survived=survived)
    MEASURED.figures += of["measured"]


def summary(reporter: pytest.TerminalReporter) -> None:
    """The figures, and the table of faults."""
    if MEASURED.figures:
        reporter.section("measured, on real Xen")
    for figure in MEASURED.figures:
        reporter.write_line(figure)
    table = FAULTS.table()
    if table:
        reporter.section("faults tried and survived, on real Xen")
    for line in table:
        reporter.write_line(line)
