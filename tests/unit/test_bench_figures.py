"""The benchmark's figures: medians, ratios, targets, tables and the README's section."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from xenbench.cli import measurement
from xenbench.figures import Figure, compare_with_targets, figures
from xenbench.tables import (
    BEGIN,
    END,
    MET,
    SHORT,
    UNKNOWN,
    NoSectionError,
    readme_section,
    screen,
    with_section,
)
from xenbench.works import (
    AGENT,
    COLD,
    DAEMON,
    LARGE,
    NO_AGENT,
    OWN_SHARE,
    PLANNING,
    PUT_BACK,
    RESTORE,
    SMALL,
    TARGETS,
    VERIFIED_ATTACH,
    VIRSH,
    WORKS,
    XL,
)

README = Path(__file__).parents[2] / "README.md"
PARTS = {"libvirt": 1.0, "libxl": 2.0, "guest": 0.6, "cede": 0.4}


def timed(work: str, by: str, *seconds: float, **more: object) -> list[dict[str, Any]]:
    return [
        {"round": number, "work": work, "by": by, "seconds": each, **more}
        for number, each in enumerate(seconds, 1)
    ]


def reached(lines: list[dict[str, Any]]) -> dict[str, list[tuple[str, float, bool]]]:
    """What was reached of each target of which anything was."""
    return {
        each.target.name: [(one.by, round(one.value, 3), one.met) for one in each.reached]
        for each in compare_with_targets(figures(lines))
        if each.reached
    }


def test_figure_is_the_median_of_its_rounds_with_what_was_counted_beside() -> None:
    counted = {
        "round": 0,
        "work": VERIFIED_ATTACH,
        "by": NO_AGENT,
        "peak_kilobytes": 38_000,
        "calls": 41,
    }
    (figure,) = figures([counted, *timed(VERIFIED_ATTACH, NO_AGENT, 5.0, 9.0, 4.0)])
    assert (figure.median, figure.peak_kilobytes, figure.calls) == (5.0, 38_000, 41)
    assert figure.as_json()["least"] == 4.0
    assert figure.as_json()["most"] == 9.0


def test_what_was_counted_and_never_timed_is_no_figure() -> None:
    counted = {"round": 0, "work": VERIFIED_ATTACH, "by": VIRSH, "peak_kilobytes": None, "calls": 9}
    assert figures([counted, {"note": "x"}, {"failed": "x", "status": 1, "said": ""}]) == ()


def test_figures_stand_in_the_order_of_the_works() -> None:
    lines = [line for work in reversed(WORKS) for line in timed(work, VIRSH, 1.0)]
    assert tuple(each.work for each in figures(lines)) == WORKS


def test_each_way_of_cede_is_held_to_the_target_by_itself() -> None:
    lines = [
        *timed(VERIFIED_ATTACH, NO_AGENT, 5.4),
        *timed(VERIFIED_ATTACH, AGENT, 1.8),
        *timed(VERIFIED_ATTACH, VIRSH, 3.6),
        *timed(VERIFIED_ATTACH, XL, 2.0),
    ]
    assert reached(lines) == {
        "verified attach / the virsh script": [(NO_AGENT, 1.5, False), (AGENT, 0.5, True)],
        "verified attach / the xl script": [(NO_AGENT, 2.7, False), (AGENT, 0.9, True)],
    }


def test_ratio_to_what_was_not_measured_is_no_figure() -> None:
    assert reached(timed(VERIFIED_ATTACH, NO_AGENT, 5.4)) == {}


def test_own_share_is_cedes_part_of_the_medians() -> None:
    assert reached(timed(OWN_SHARE, COLD, 4.0, 4.2, parts=PARTS)) == {
        "cede's own share of a verified attach": [(COLD, 10.0, True)]
    }


def test_beyond_the_attach_is_what_the_agent_takes_longer_than_one_that_is_asked() -> None:
    lines = [*timed(PUT_BACK, DAEMON, 3.0), *timed(OWN_SHARE, RESTORE, 2.2, parts=PARTS)]
    name = "behind its back to verified again, beyond the attach itself"
    assert reached(lines)[name] == [(DAEMON, 0.8, False)]


def test_planning_is_held_to_time_memory_and_growth() -> None:
    memory = {"round": 1, "work": PLANNING, "by": SMALL, "peak_kilobytes": 42_000, "calls": None}
    lines = [*timed(PLANNING, SMALL, 0.4), memory, *timed(PLANNING, LARGE, 1.0)]
    found = reached(lines)
    assert found["the same: memory at most"] == [(SMALL, 42.0, True)]
    assert found["the same: linear, so twice as many / as many"] == [(LARGE, 2.5, False)]


def test_screen_and_section_name_every_target_and_whether_it_is_met() -> None:
    lines = [*timed(VERIFIED_ATTACH, NO_AGENT, 1.8), *timed(VERIFIED_ATTACH, VIRSH, 3.6)]
    lines += timed(VERIFIED_ATTACH, XL, 1.0)
    lines += timed(OWN_SHARE, COLD, 4.0, parts=PARTS)
    measured, failed = measurement([*lines, {"note": "no agent"}], "Measured here.", 1)
    assert not failed
    for text in (screen(measured), readme_section(measured)):
        assert all(target.name in text for target in TARGETS)
        assert all(word in text for word in (MET, SHORT, UNKNOWN, "libxl 2.00 s", "no agent"))
    json.dumps(measured.as_json())


def test_failure_is_a_note_and_told() -> None:
    line = {"failed": "verified, xl: attach", "status": 1, "said": "no"}
    measured, failed = measurement([line, line], "Measured here.", 2)
    assert failed
    assert measured.notes == ("failed 2 times: verified, xl: attach",)


def test_section_replaces_what_is_between_the_markers_and_nothing_else() -> None:
    readme = f"# a\n\n{BEGIN}\nold\n{END}\n\n## b\n"
    assert with_section(readme, f"{BEGIN}\nnew\n{END}") == f"# a\n\n{BEGIN}\nnew\n{END}\n\n## b\n"


@pytest.mark.parametrize("readme", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_readme_without_both_markers_is_left_alone(readme: str) -> None:
    with pytest.raises(NoSectionError):
        with_section(readme, "new")


def _section() -> str:
    text = README.read_text()
    assert text.count(BEGIN) == 1
    assert text.count(END) == 1
    return text.partition(BEGIN)[2].partition(END)[0]


def test_readme_shows_each_target_with_its_figure_in_the_format_of_its_unit() -> None:
    rows = [line.strip("| ").split(" | ") for line in _section().splitlines()[1:] if " | " in line]
    by_name = {row[0]: row for row in rows}
    shape = {"": r"\d+\.\d\d", "s": r"-?\d+\.\d\d s", "%": r"\d+ %", "MB": r"\d+ MB"}
    for target in TARGETS:
        _, at_most, value, _, verdict = [cell.strip() for cell in by_name[target.name]]
        assert re.fullmatch(shape[target.unit], at_most), target.name
        if verdict == UNKNOWN:
            assert not value
        else:
            assert re.fullmatch(shape[target.unit], value), target.name
            assert verdict in {MET, SHORT}


def test_readme_shows_figures_as_seconds_with_their_spread() -> None:
    rows = [
        line
        for line in _section().splitlines()
        if re.match(rf"\| ({'|'.join(map(re.escape, WORKS))}) \|", line)
    ]
    for row in rows:
        assert re.search(r"\| \d+\.\d\d s \| \d+\.\d\d to \d+\.\d\d s \|", row), row


def test_figure_without_parts_has_no_share() -> None:
    with pytest.raises(KeyError):
        _ = Figure(work=OWN_SHARE, by=COLD, seconds=(1.0,)).share
