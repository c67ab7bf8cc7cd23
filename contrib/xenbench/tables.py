"""What was measured, as people read it: a table of figures, one of targets, and the README's section of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .figures import Figure, Judged
from .works import MEGABYTE

BEGIN = "<!-- benchmarks: written by `contrib/bench --readme` -->"
END = "<!-- end of benchmarks -->"
MET, SHORT, UNKNOWN = "met", "falls short", "not measured"

_FIGURES = ("work", "by", "median", "spread", "peak memory", "libvirt calls")
_TARGETS = ("target", "at most", "reached", "by", "")


class NoSectionError(Exception):
    """The README has no place for the section."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One run of the benchmark.

    `where` names the host, its load and the number of rounds, in words; `agent_peak_kilobytes` is None without an
    agent; `notes` are what the reader must know of the figures.
    """

    where: str
    rounds: int
    figures: tuple[Figure, ...]
    judged: tuple[Judged, ...]
    agent_peak_kilobytes: int | None = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "where": self.where,
            "rounds": self.rounds,
            "agent_peak_kilobytes": self.agent_peak_kilobytes,
            "figures": [each.as_json() for each in self.figures],
            "targets": [each.as_json() for each in self.judged],
            "notes": list(self.notes),
        }


def figure_rows(figures: Sequence[Figure]) -> list[tuple[str, ...]]:
    """The rows of the table of figures."""
    return [
        (
            each.work,
            each.by,
            f"{each.median:.2f} s",
            f"{min(each.seconds):.2f} to {max(each.seconds):.2f} s",
            "" if each.peak_kilobytes is None else f"{each.peak_kilobytes / MEGABYTE:.0f} MB",
            "" if each.calls is None else str(each.calls),
        )
        for each in figures
    ]


def target_rows(judged: Sequence[Judged]) -> list[tuple[str, ...]]:
    """The rows of the table of targets; a target that was not measured says so."""
    rows: list[tuple[str, ...]] = []
    for each in judged:
        target = each.target
        at_most = _value(target.at_most, target.unit)
        if not each.reached:
            rows.append((target.name, at_most, "", "", UNKNOWN))
        for reached in each.reached:
            word = MET if reached.met else SHORT
            value = _value(reached.value, target.unit)
            rows.append((target.name, at_most, value, reached.by, word))
    return rows


def part_lines(figures: Sequence[Figure]) -> list[str]:
    """What a verified attach is made of, a line for each way."""
    return [
        f"{each.work}, {each.by}: "
        + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in each.parts.items())
        for each in figures
        if each.parts
    ]


def _value(value: float, unit: str) -> str:
    if not unit:
        return f"{value:.2f}"
    return f"{value:.2f} s" if unit == "s" else f"{value:.0f} {unit}"


def _remarks(measured: Measurement) -> list[str]:
    lines = part_lines(measured.figures)
    if measured.agent_peak_kilobytes is not None:
        lines.append(f"the agent: {measured.agent_peak_kilobytes / MEGABYTE:.0f} MB at most")
    return [*lines, *measured.notes]


def screen(measured: Measurement) -> str:
    """Both tables, for a terminal."""
    parts = [
        measured.where,
        "",
        *_aligned([_FIGURES, *figure_rows(measured.figures)]),
        "",
        *_aligned([_TARGETS, *target_rows(measured.judged)]),
        "",
        *_remarks(measured),
    ]
    return "\n".join(parts) + "\n"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in body)]


def readme_section(measured: Measurement) -> str:
    """The README's section, between its markers, both included."""
    remarks = [f"- {line}" for line in _remarks(measured)]
    parts = [
        BEGIN,
        "",
        f"{measured.where} Lower is better in both tables.",
        "",
        *_markdown([_TARGETS, *target_rows(measured.judged)]),
        "",
        *_markdown([_FIGURES, *figure_rows(measured.figures)]),
        "",
        *remarks,
        "",
        END,
    ]
    return "\n".join(parts)


def with_section(readme: str, section: str) -> str:
    """Replace what stands between the markers. Raises NoSectionError if they aren't there, once each and in order."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise NoSectionError("the README needs each of the section's two markers once")
    before, _, rest = readme.partition(BEGIN)
    _, marker, after = rest.partition(END)
    if not marker:
        raise NoSectionError("the README's markers of the section are in the wrong order")
    return before + section + after
