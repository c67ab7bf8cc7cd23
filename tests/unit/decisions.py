"""What a plan decides, without its sentences: the kind of each decision, its actions with their values, its rule.

The sentences stand in tests/golden. A test that asserts a decision holds on to what happens, whatever it is called in
front of people.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from cede.model import serialization

if TYPE_CHECKING:
    from cede.model.plan import Action, Change, NoOp, Plan

# whose they are says their subject and the policy; test_planner_cases holds them to that
_OWNERSHIP = frozenset({"alias", "policy"})


def decisions(planned: Plan) -> dict[str, Any]:
    """By subject: `change` with its actions, else what there is to do instead, or the rule that refuses."""
    every = [
        *((change.subject, _change(change)) for change in planned.changes),
        *((noop.subject, kind(noop)) for noop in planned.noops),
        *((r.subject, {"refused": r.name, "exit": int(r.exit)}) for r in planned.refusals),
    ]
    found = dict(every)
    assert len(found) == len(every), "two decisions on one subject"
    return found


def _change(change: Change) -> dict[str, Any]:
    said = {
        "action_required": bool(change.action_required), "drifted": change.drifted, "drained": change.drained,
    }  # fmt: skip
    return {"change": [_shown(action) for action in change.actions]} | {
        n: v for n, v in said.items() if v
    }


def kind(noop: NoOp) -> str:
    """Why there is nothing to do, in a word; `deferred` to something that the administrator must do first."""
    if noop.drained:
        return "drained"
    if noop.paused:
        return "paused"
    if noop.drifted:
        return "drifted"
    if noop.alternative_attached:
        return "alternative"
    return "deferred" if noop.action_required else "satisfied"


def _shown(action: Action) -> str | dict[str, Any]:
    """An action by its name, with those of its values that aren't the default."""
    name = serialization.plain(action)["action"]
    values = {
        field.name: serialization.plain(getattr(action, field.name))
        for field in fields(action)
        if field.name not in _OWNERSHIP and getattr(action, field.name) not in {None, False, ""}
    }
    return {name: values} if values else name
