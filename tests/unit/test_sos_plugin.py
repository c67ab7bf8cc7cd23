"""contrib/sos/cede.py against a stand-in for sos: it names commands of cede, and no file with a password."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from cede.cli.main import cli

PLUGIN = Path(__file__).parents[2] / "contrib/sos/cede.py"


class Plugin:
    """Notes what sos would be told."""

    def __init__(self) -> None:
        self.copied: list[str] = []
        self.run: list[str] = []
        self.replaced: list[tuple[str, str, str]] = []

    def add_copy_spec(self, paths: list[str]) -> None:
        self.copied += paths

    def add_cmd_output(self, commands: list[str]) -> None:
        self.run += commands

    def do_path_regex_sub(self, path: str, pattern: str, instead: str) -> None:
        self.replaced.append((path, pattern, instead))


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Plugin:
    stub = ModuleType("sos.report.plugins")
    vars(stub).update(Plugin=Plugin, IndependentPlugin=type("IndependentPlugin", (), {}))
    for name in ("sos", "sos.report"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "sos.report.plugins", stub)
    found = runpy.run_path(str(PLUGIN))["Cede"]()
    assert isinstance(found, Plugin)
    found.setup()  # type: ignore[attr-defined]
    found.postproc()  # type: ignore[attr-defined]
    return found


def test_it_runs_commands_that_cede_has(plugin: Plugin) -> None:
    context = click.Context(cli)
    for program, name, *options in (line.split() for line in plugin.run):
        command = cli.get_command(context, name)
        assert program == "cede"
        assert command is not None
        assert set(options) <= {opt for parameter in command.params for opt in parameter.opts}
    assert "cede report --answers" in plugin.run


def test_it_takes_no_credentials_and_removes_passwords(plugin: Plugin) -> None:
    assert all(path.startswith("/") for path in plugin.copied)
    assert not any(path.rstrip("/*") == "/etc/cede" for path in plugin.copied)
    ((_, pattern, instead),) = plugin.replaced
    for said in ("passwd='hunter2'", 'passwd = "hunter2"'):
        assert "hunter2" not in re.sub(pattern, instead, f"<graphics {said}/>")
