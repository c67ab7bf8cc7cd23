"""What a command imports, in a process of its own: who only asks waits for little more than Python and click."""

from __future__ import annotations

import json
import os
import subprocess
import sys

CLICK = "import sys, click, gettext, locale; before = set(sys.modules)\n"
SCRIPT = """\
import json
from cede.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(json.dumps(sorted(set(sys.modules) - before - {"json"})))
"""


def imported(*argv: str) -> set[str]:
    """The modules that such a command imports beyond click and what click imports."""
    done = subprocess.run(
        [sys.executable, "-c", CLICK + SCRIPT, *argv],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return {name for name in names if not name.startswith(("json.", "_json"))}


def test_the_version_needs_the_command_line_alone() -> None:
    assert imported("--version") == {
        "__future__", "cede", "cede.cli", "cede.cli.main", "cede.util", "cede.util.well_known",
    }  # fmt: skip


def test_the_help_of_a_command_needs_its_options_alone() -> None:
    assert {name for name in imported("apply", "--help") if name.startswith("cede.")} == {
        "cede.cli", "cede.cli.main", "cede.cli.apply_command", "cede.cli.options", "cede.cli.session",
        "cede.commands", "cede.commands.answer", "cede.commands.screen",
        "cede.util", "cede.util.text", "cede.util.well_known",
    }  # fmt: skip
