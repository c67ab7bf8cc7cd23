"""What a plan decides, without its sentences: the kind of each decision, its actions with their values, its rule.

The sentences stand in tests/golden. A test that asserts a decision holds on to what happens, whatever it is called in
front of people.
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, assert_never

from cede.model import serialization
from cede.model.plan import Change, Deferred, Drifted, Paused, Purpose, Refused, Satisfied

if TYPE_CHECKING:
    from cede.model.actions import Action
    from cede.model.plan import Decision, Plan

# whose they are says their subject and the policy; test_planner_cases holds them to that
_OWNERSHIP = frozenset({"alias", "policy"})


def decisions(planned: Plan) -> dict[str, Any]:
    """By subject: `change` with its actions, else why there is nothing to do, or the rule that refuses."""
    found = {decision.subject: _decision(decision) for decision in planned.decisions}
    assert len(found) == len(planned.decisions), "two decisions on one subject"
    return found


def _decision(decision: Decision) -> Any:  # noqa: ANN401 - as YAML has it
    match decision:
        case Change():
            return _change(decision)
        case Satisfied():
            return {"satisfied": decision.why.value}
        case Deferred():
            return {"deferred": {"restart": decision.restart}} if decision.restart else "deferred"
        case Refused():
            return {"refused": decision.rule, "kind": decision.kind.value}
        case Paused():
            return "drained" if decision.pause.drained else "paused"
        case Drifted():
            return "drifted"
        case _:
            assert_never(decision)


def _change(change: Change) -> dict[str, Any]:
    """Its actions; its purpose, unless it is a first attach; what is left to the administrator, and its group."""
    said: dict[str, Any] = {"change": [_shown(action) for action in change.actions]}
    if change.purpose is not Purpose.ATTACH:
        said["purpose"] = change.purpose.value
    if change.action_required:
        said["action_required"] = True
    if change.restart:
        said["restart"] = change.restart
    if change.group:
        said["group"] = change.group
    return said


def of_kind(planned: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The decisions of one kind in a plan's JSON."""
    return [decision for decision in planned["decisions"] if decision["decision"] == kind]


def _said(value: Any) -> Any:  # noqa: ANN401 - as YAML has it
    """The value; of a value of several parts those that say something."""
    if isinstance(value, dict):
        return {name: part for name, part in value.items() if part is not None}
    return value


def _shown(action: Action) -> str | dict[str, Any]:
    """An action by its name, with those of its values that aren't the default."""
    name = serialization.plain(action)["action"]
    values = {
        field.name: _said(serialization.plain(getattr(action, field.name)))
        for field in fields(action)
        if field.name not in _OWNERSHIP and getattr(action, field.name) not in {None, False, "", ()}
    }
    return {name: values} if values else name
