"""What lab tests have to tell beside passing: figures, and a table of faults."""

from collections import Counter

import pytest


class Faults:
    """What was done to cede on the real host, and how much of it cede survived; told at the end of the run."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()

    def tell(self, name: str, *, tried: int = 1, survived: int = 1) -> None:
        """Count one kind of fault."""
        self.tried[name] += tried
        self.survived[name] += survived


class Measured:
    """Figures that were measured on the real host; told at the end of the run."""

    def __init__(self) -> None:
        self.figures: list[str] = []

    def tell(self, figure: str) -> None:
        """Keep one figure, in words."""
        self.figures.append(figure)


FAULTS = Faults()
MEASURED = Measured()


def summary(reporter: pytest.TerminalReporter) -> None:
    """The figures, and the table of faults."""
    if MEASURED.figures:
        reporter.section("measured, on real Xen")
    for figure in MEASURED.figures:
        reporter.write_line(figure)
    if FAULTS.tried:
        reporter.section("faults tried and survived, on real Xen")
    for name, tried in FAULTS.tried.items():
        reporter.write_line(f"{tried:5d} {FAULTS.survived[name]:5d}  {name}")
