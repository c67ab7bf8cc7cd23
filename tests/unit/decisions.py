"""What a plan decides, without its sentences: the kind of each decision, its actions with their values, its rule.

The sentences stand in tests/golden. A test that asserts a decision holds on to what happens, whatever it is called in
front of people.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from cede.model import serialization

if TYPE_CHECKING:
    from cede.model.plan import NoOp, Plan, Step, Work

# whose they are says their subject and the policy; test_planner_cases holds them to that
_OWNERSHIP = frozenset({"alias", "policy"})


def decisions(planned: Plan) -> dict[str, Any]:
    """By subject: `change` with its actions, else what there is to do instead, or the rule that refuses."""
    every = [
        *((work.subject, _change(work)) for work in planned.work),
        *((noop.subject, kind(noop)) for noop in planned.noops),
        *((r.subject, {"refused": r.name, "exit": int(r.exit)}) for r in planned.refusals),
    ]
    found = dict(every)
    assert len(found) == len(every), "two decisions on one subject"
    return found


def _change(work: Work) -> dict[str, Any]:
    said = {
        "action_required": bool(work.pending), "drifted": work.drifted, "drained": work.drained,
    }  # fmt: skip
    return {"change": [action(step) for step in work.steps]} | {n: v for n, v in said.items() if v}


def kind(noop: NoOp) -> str:
    """Why there is nothing to do, in a word; `deferred` to something that a person must do first."""
    if noop.drained:
        return "drained"
    if noop.paused:
        return "paused"
    if noop.drifted:
        return "drifted"
    if noop.settled:
        return "alternative"
    return "deferred" if noop.pending else "satisfied"


def action(step: Step) -> str | dict[str, Any]:
    """A step by its name, with those of its values that aren't the default."""
    name = serialization.plain(step)["step"]
    values = {
        field.name: serialization.plain(getattr(step, field.name))
        for field in fields(step)
        if field.name not in _OWNERSHIP and getattr(step, field.name) not in {None, False, ""}
    }
    return {name: values} if values else name
