"""The benchmark's courses: what is measured, in which turns, and that each is undone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cede.policy.policy_files import read
from xenbench.courses import (
    Course,
    Given,
    Setting,
    as_json,
    behind_its_back,
    breakdown,
    courses,
    from_json,
    in_turn,
    policies,
)
from xenbench.on_lab import DOMAINS, GIVEN, SETTING
from xenbench.works import AGENT, MANY, NO_AGENT, RATIO, RELEASE, TARGETS, VERIFIED_ATTACH

ALONE = Setting(
    given=(Given(device="0000:01:00.0", domain="ace2x1", driver="e1000e"),), folder="/tmp/bench"
)


def measured(found: tuple[Course, ...]) -> set[tuple[str, str]]:
    return {(step.work, step.by) for course in found for step in course.steps if step.work}


def test_lab_has_eight_devices_for_four_guests() -> None:
    assert len({given.device for given in GIVEN}) == 8
    assert {given.domain for given in GIVEN} == set(DOMAINS)
    assert len(DOMAINS) == 4


def test_every_ratio_has_both_its_sides_measured() -> None:
    found = measured(courses(SETTING, agent=True))
    for target in TARGETS:
        if target.kind == RATIO:
            assert (target.work, target.against) in found
            assert {(target.work, NO_AGENT), (target.work, AGENT)} <= found


def test_nobody_asks_an_agent_that_is_not_there() -> None:
    found = courses(SETTING, agent=False)
    assert not any(course.with_agent for course in found)
    assert AGENT not in {by for _, by in measured(found)}


def test_what_changes_the_host_is_undone_for_every_device_that_it_names() -> None:
    for course in (*courses(SETTING, agent=True), breakdown(SETTING), behind_its_back(SETTING)):
        words = {word for step in course.steps for word in step.argv}
        named = [given for given in GIVEN if given.device in words]
        if any("apply" in step.argv for step in course.steps):
            named = list(GIVEN) if MANY in {step.work for step in course.steps} else [GIVEN[0]]
        for given in named:
            at = course.undo.index(given.device)
            assert course.undo[at - 1 : at + 2] == given.words


def test_without_a_guest_to_ask_nothing_types_on_a_console() -> None:
    setting = Setting(given=ALONE.given * 2, folder="/tmp/bench", asks_guest=False)
    found = courses(setting, agent=False)
    words = {word for course in found for step in course.steps for word in step.argv}
    assert not any("attach_virsh.sh" in word or "attach_xl" in word for word in words)
    assert VERIFIED_ATTACH not in {work for work, _ in measured(found)}
    assert (RELEASE, NO_AGENT) in measured(found)
    assert "console" not in policies(setting)["many"]


def test_one_device_is_not_several_at_once() -> None:
    assert MANY not in {work for work, _ in measured(courses(ALONE, agent=False))}


@pytest.mark.parametrize("setting", [SETTING, ALONE])
def test_policies_are_policies(setting: Setting, tmp_path: Path) -> None:
    assigned = {}
    for name, text in policies(setting).items():
        (tmp_path / f"{name}.yaml").write_text(text)
        assigned[name] = len(read(tmp_path / f"{name}.yaml").assignments)
    many = len(setting.given)
    assert assigned == {"verified": 1, "plain": 1, "many": many, "wanted": 1, "nothing": 0}


def test_course_is_the_same_after_it_was_sent_as_json() -> None:
    for course in courses(SETTING, agent=True):
        assert from_json(json.loads(json.dumps(as_json(course)))) == course


def test_each_course_is_first_once_and_those_with_the_agent_are_together_at_the_end() -> None:
    found = courses(SETTING, agent=True)
    alone = [course for course in found if not course.with_agent]
    orders = [in_turn(found, number) for number in range(len(alone))]
    assert {order[0].name for order in orders} == {course.name for course in alone}
    for order in orders:
        assert sorted(course.name for course in order) == sorted(course.name for course in found)
        assert [course.with_agent for course in order] == sorted(c.with_agent for c in order)
