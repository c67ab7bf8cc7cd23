"""The documents: each command, option, link and file that they name is there."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
import yaml

from cede.cli.main import cli
from cede.policy.policy_files import read

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("contrib/docs/*.md")])
DEBIAN_NAMES = {"libvirt-python": "libvirt", "PyYAML": "yaml"}
_SHOWN = re.compile(r"`([^`\n]+)`|^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(#[^)]*)?\)")
_PATH = re.compile(r"^(?:agent|contrib|schemas|tests|\.ci)/[\w./-]*$")


def shown(text: str) -> Iterator[str]:
    """Each line of code that a document shows, without comments."""
    for inline, block in _SHOWN.findall(text):
        for line in (inline or block).splitlines():
            yield line.partition("  #")[0].strip()


def cede_calls(text: str) -> Iterator[list[str]]:
    for line in shown(text):
        for part in re.split(r" -- | / |&&|;", line):
            words = part.split()
            if words[:1] == ["cede"] and len(words) > 1:
                yield words[1:]


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, "--help", "-h")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_document_names_only_commands_and_options_of_cede(document: Path) -> None:
    context = click.Context(cli)
    for name, *arguments in cede_calls(document.read_text()):
        if name.startswith("-") or name.isupper():
            continue
        command = cli.get_command(context, name)
        assert command is not None, f"cede {name}"
        used = {word.partition("=")[0] for word in arguments if word.startswith("-")}
        assert used <= options_of(command), f"cede {name} {' '.join(arguments)}"


def test_readme_names_every_command() -> None:
    named = {name for name, *_ in cede_calls((CHECKOUT / "README.md").read_text())}
    assert named >= set(cli.list_commands(click.Context(cli)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_document_links_to_what_is_there(document: Path) -> None:
    for target, anchor in _LINK.findall(document.read_text()):
        file = document.parent / target
        assert file.exists(), target
        if anchor:
            text = file.read_text().lower()
            heading = f"# {anchor[1:].replace('-', ' ')}"
            assert f'<a id="{anchor[1:]}">' in text or heading in text, f"{target}{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_document_names_files_of_the_checkout(document: Path) -> None:
    for line in shown(document.read_text()):
        for word in line.split():
            if _PATH.match(word):
                assert (CHECKOUT / word).exists(), word


@pytest.mark.parametrize("document", ["README.md", "contrib/docs/policy.md"])
def test_policy_that_a_document_shows_is_valid(document: str, tmp_path: Path) -> None:
    text = (CHECKOUT / document).read_text()
    block = next(
        block for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    )
    (tmp_path / "policy.yaml").write_text(block)
    assert read(tmp_path / "policy.yaml").assignments


def names_in(file: Path) -> set[str]:
    """Each function, class, method and assigned name of a module."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def test_architecture_names_files_and_symbols_of_the_code() -> None:
    text = (CHECKOUT / "contrib/docs/architecture.md").read_text()
    symbols = re.findall(r"`([\w/]+\.py)::(\w+)`", text)
    assert symbols
    for path, name in symbols:
        assert name in names_in(CHECKOUT / "agent/cede" / path), f"{path}::{name}"
    for path in re.findall(r"`([a-z_]+/(?:[a-z_/]*|[\w/]+\.py))`", text):
        assert (CHECKOUT / "agent/cede" / path).exists() or (CHECKOUT / path).exists(), path


def test_architecture_answers_ten_questions_with_a_file_each() -> None:
    text = (CHECKOUT / "contrib/docs/architecture.md").read_text()
    section = text.partition("## Ten questions")[2].partition("\n## ")[0]
    assert len(re.findall(r"^\| .*\? \| `[\w/]+\.py::\w+` \|$", section, re.MULTILINE)) == 10


def test_architecture_names_every_room_of_the_package() -> None:
    text = (CHECKOUT / "contrib/docs/architecture.md").read_text()
    rooms = {file.parent.name for file in (CHECKOUT / "agent/cede").glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}/`" not in text} == set()


def test_readme_installs_each_dependency_from_debian() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"]:
        name = requirement.partition(">=")[0]
        assert f"python3-{DEBIAN_NAMES.get(name, name)}" in readme, name


def test_pre_commit_runs_the_pinned_tools_and_pins_nothing_itself() -> None:
    hooks = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert all(hook["language"] == "system" for hook in hooks[0]["hooks"])
    assert all("additional_dependencies" not in hook for hook in hooks[0]["hooks"])
