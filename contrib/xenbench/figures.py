"""Medians and ratios of what was measured, and whether the targets are met. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from .works import (
    AGENT,
    BEYOND,
    COLD,
    DAEMON,
    LARGE,
    MEGABYTE,
    NO_AGENT,
    OWN_SHARE,
    PLAN_GROWTH,
    PLAN_MEMORY,
    PLAN_SECONDS,
    PLANNING,
    PUT_BACK,
    RATIO,
    RESTORE,
    SHARE,
    SMALL,
    TARGETS,
    WARM,
    WORKS,
    Target,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What the rounds of one work done by one came to.

    `seconds` of each round; `parts` are the medians of what it is made of, in seconds; `peak_kilobytes` and `calls` of
    libvirt were counted in a round of their own, None where they weren't.
    """

    work: str
    by: str
    seconds: tuple[float, ...]
    peak_kilobytes: int | None = None
    calls: int | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return median(self.seconds)

    @property
    def share(self) -> float:
        """cede's own part of the whole, from 0 to 1."""
        return self.parts["cede"] / sum(self.parts.values())

    def as_json(self) -> dict[str, Any]:
        """All of it, rounded to what was measured."""
        return {
            "work": self.work,
            "by": self.by,
            "median": round(self.median, 3),
            "least": round(min(self.seconds), 3),
            "most": round(max(self.seconds), 3),
            "seconds": [round(each, 3) for each in self.seconds],
            "peak_kilobytes": self.peak_kilobytes,
            "calls": self.calls,
            "parts": {name: round(seconds, 3) for name, seconds in self.parts.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What was reached of a target, `by` whom."""

    by: str
    value: float
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A target with all that was reached of it; nothing if it was not measured."""

    target: Target
    reached: tuple[Reached, ...]

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        reached = [
            {"by": each.by, "value": round(each.value, 3), "met": each.met} for each in self.reached
        ]
        target = {
            "name": self.target.name,
            "at_most": self.target.at_most,
            "unit": self.target.unit,
        }
        return {**target, "reached": reached}


def figures(lines: Iterable[Mapping[str, Any]]) -> tuple[Figure, ...]:
    """Make a figure of all rounds of each work and each who did it, in the order of the works.

    `lines` are those of `runner`. What was counted and never timed is no figure.
    """
    seconds: dict[tuple[str, str], list[float]] = {}
    parts: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    counted: dict[tuple[str, str], Mapping[str, Any]] = {}
    for line in lines:
        if "work" not in line:
            continue
        key = (line["work"], line["by"])
        if "seconds" in line:
            seconds.setdefault(key, []).append(line["seconds"])
        if "parts" in line:
            parts.setdefault(key, []).append(line["parts"])
        if "calls" in line or "peak_kilobytes" in line:
            counted[key] = line
    found = [
        Figure(
            work=work,
            by=by,
            seconds=tuple(rounds),
            peak_kilobytes=counted.get((work, by), {}).get("peak_kilobytes"),
            calls=counted.get((work, by), {}).get("calls"),
            parts=_medians(parts.get((work, by), ())),
        )
        for (work, by), rounds in seconds.items()
    ]
    return tuple(sorted(found, key=lambda each: WORKS.index(each.work)))


def _medians(rounds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    rounds = tuple(rounds)
    names = rounds[0] if rounds else ()
    return {name: median(each[name] for each in rounds) for name in names}


def compare_with_targets(measured: Iterable[Figure]) -> tuple[Judged, ...]:
    """Hold the figures to the targets, each way of cede by itself."""
    by_name = {(figure.work, figure.by): figure for figure in measured}
    return tuple(
        Judged(
            target=target,
            reached=tuple(
                Reached(by=by, value=value, met=value <= target.at_most)
                for by, value in _values(target, by_name).items()
            ),
        )
        for target in TARGETS
    )


def _values(target: Target, measured: Mapping[tuple[str, str], Figure]) -> dict[str, float]:
    if target.kind == RATIO:
        other = measured.get((target.work, target.against))
        own = {by: measured.get((target.work, by)) for by in (NO_AGENT, AGENT)}
        return {by: each.median / other.median for by, each in own.items() if each and other}
    if target.kind == SHARE:
        ways = {by: measured.get((OWN_SHARE, by)) for by in (COLD, WARM)}
        return {by: 100 * each.share for by, each in ways.items() if each}
    if target.kind == BEYOND:
        whole, alone = measured.get((PUT_BACK, DAEMON)), measured.get((OWN_SHARE, RESTORE))
        return {DAEMON: whole.median - alone.median} if whole and alone else {}
    small, large = measured.get((PLANNING, SMALL)), measured.get((PLANNING, LARGE))
    if small is None:
        return {}
    if target.kind == PLAN_SECONDS:
        return {SMALL: small.median}
    if target.kind == PLAN_MEMORY:
        return {SMALL: (small.peak_kilobytes or 0) / MEGABYTE}
    if target.kind == PLAN_GROWTH and large is not None:
        return {LARGE: large.median / small.median}
    return {}
