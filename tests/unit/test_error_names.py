"""Every error says which one it is by a name, and tells it in JSON, so that nobody has to read its sentence."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import cede
from cede import errors
from cede.errors import CedeError, HungError, LockedError, PermanentError, StopRequestedError
from cede.model.serialization import plain

KINDS = {
    name
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, CedeError)
}
# there is one error of each
ALONE = {HungError.__name__, StopRequestedError.__name__, LockedError.__name__}
NAME = re.compile(r"[a-z]+(-[a-z]+)*")


def raised_in(file: Path) -> list[tuple[int, str, ast.expr | None]]:
    """Line, class and name of each error that the module makes."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            names = [word.value for word in node.keywords if word.arg == "name"]
            found.append((node.lineno, node.func.id, names[0] if names else None))
    return found


def test_each_error_that_is_made_has_a_name_of_its_own() -> None:
    folder = Path(cede.__file__).parent
    errors_made = [
        (f"{file.relative_to(folder)}:{line}", kind, name)
        for file in sorted(folder.rglob("*.py"))
        for line, kind, name in raised_in(file)
    ]
    assert len(errors_made) > 100
    assert [place for place, kind, name in errors_made if name is None and kind not in ALONE] == []
    literals = [name.value for _, _, name in errors_made if isinstance(name, ast.Constant)]
    assert [name for name in literals if not NAME.fullmatch(str(name))] == []


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_class_of_errors_has_a_name_for_those_without(kind: str) -> None:
    assert NAME.fullmatch(getattr(errors, kind)("no").name)


def test_an_error_in_json_has_its_name_and_its_kind() -> None:
    error = PermanentError("no FLR", name="reset-impossible", remedy="see reset_method")
    assert plain(error) == {
        "name": "reset-impossible", "message": "no FLR", "remedy": "see reset_method", "kind": "failed",
    }  # fmt: skip
