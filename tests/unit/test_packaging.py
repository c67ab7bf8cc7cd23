"""The packages: every unit, page and dependency is in them, and the version stands in one place."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from cede import __version__
from cede.cli.main import cli
from cede.commands.exit_status import Exit
from cede.util import schemas
from cede.util.paths import Paths
from man_pages import pages

CHECKOUT = Path(__file__).parents[2]
DEBIAN = CHECKOUT / "contrib/debian"
UNITS = sorted(
    path.name
    for path in (CHECKOUT / "contrib/systemd").iterdir()
    if path.suffix in {".service", ".socket", ".timer"}
)
SCRIPTS = [DEBIAN / f"cede.{name}" for name in ("preinst", "postinst", "prerm", "postrm")]
IN_DEBIAN = {"libvirt-python": "libvirt", "PyYAML": "yaml"}
COMMANDS = cli.list_commands(click.Context(cli))
HEADING = re.compile(r"\[Unreleased\]|\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d")
SECTIONS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def text_of(name: str) -> str:
    return (DEBIAN / name).read_text(encoding="utf-8")


def project() -> dict[str, object]:
    read: dict[str, object] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return read


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", "1790000000")
        for name, text in pages().items():
            (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("unit", UNITS)
def test_each_unit_is_packaged_but_neither_enabled_nor_started(unit: str) -> None:
    rules = text_of("rules")
    own = re.findall(r"contrib/systemd/(cede\.\w+)", rules)
    assert unit in {*own, *re.findall(r"^UNITS = (.*)$", rules, re.MULTILINE)[0].split()}
    calls = [line for line in rules.splitlines() if "\tdh_installsystemd" in line]
    assert calls
    assert all("--no-enable --no-start" in call for call in calls)


def test_each_call_for_systemd_says_what_an_upgrade_does() -> None:
    calls = re.findall(r"dh_installsystemd (.*)", text_of("rules"))
    assert [call for call in calls if "--restart-after-upgrade" in call and "cede " in call] == [
        "--package=cede --no-enable --no-start --no-also --restart-after-upgrade cede.service"
    ]
    assert all("upgrade" in call for call in calls)


def test_a_removal_stops_every_unit_and_the_sockets_before_the_agent() -> None:
    stopped = [
        unit
        for line in re.findall(r"deb-systemd-invoke stop (.*) >/dev/null", text_of("cede.prerm"))
        for unit in line.split()
    ]
    assert sorted(stopped) == UNITS
    sockets = [stopped.index(unit) for unit in stopped if unit.endswith((".socket", ".timer"))]
    assert max(sockets) < stopped.index("cede.service")


def test_an_upgrade_changes_no_file_under_a_cede_that_works() -> None:
    before = text_of("cede.preinst")
    (stopped,) = re.findall(r"deb-systemd-invoke stop (.*) >/dev/null", before)
    works = {
        path.name
        for path in (CHECKOUT / "contrib/systemd").glob("*.service")
        if re.search(r"^ExecStart=cede (run|apply)", path.read_text(), re.MULTILINE)
    }
    assert set(stopped.split()) == works
    assert f"flock --timeout 180 {Paths().lock} true" in before
    assert "deb-systemd-invoke reload-or-restart cede.service" in text_of("cede.postinst")


@pytest.mark.parametrize("folder", ["systemd/modules-load.d", "systemd/system-sleep", "guest"])
def test_each_other_file_for_a_host_or_a_guest_is_packaged(folder: str) -> None:
    packaged = text_of("cede.install") + text_of("cede-guest.install") + text_of("rules")
    for path in (CHECKOUT / "contrib" / folder).iterdir():
        if path.suffix != ".openrc":  # Debian's packages have no use for it
            assert f"contrib/{folder}/{path.name}" in packaged


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_of_the_package_are_right_for_a_shell(script: Path) -> None:
    subprocess.run(["sh", "-n", script], check=True)
    assert "#DEBHELPER#" in script.read_text()


def test_a_purge_leaves_the_policy() -> None:
    removed = re.findall(r"rm -r?f (.*)", text_of("cede.postrm"))
    assert removed
    assert "/etc" not in " ".join(removed)


def test_the_package_is_built_with_each_dependency_at_its_floor() -> None:
    needed = text_of("control").partition("Build-Depends:")[2].partition("\n\n")[0]
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    for requirement in dependencies:
        name, floor = requirement.split(">=")
        python = f"python3-{IN_DEBIAN.get(name, name)}"
        (version,) = re.findall(rf"{python} \(>= ([\d.]+)\)", needed)
        assert floor.startswith(version), python


def test_the_version_is_in_one_place() -> None:
    places = subprocess.run(
        ["grep", "-rlF", "--exclude-dir=__pycache__", f'"{__version__}"', "agent", "contrib", "pyproject.toml"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert places == ["agent/cede/__init__.py"]
    assert project()["dynamic"] == ["version"]
    assert not (DEBIAN / "changelog").exists()


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    text = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings
    assert all(HEADING.fullmatch(heading) for heading in headings)
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= SECTIONS
    assert headings[0] == "[Unreleased]" or headings[0].startswith(f"[{__version__}] - ")


def test_each_command_has_a_page_and_so_have_agent_guest_and_policy(manual: Path) -> None:
    assert {path.name for path in manual.iterdir()} == {
        "cede.8", "cede-agent.8", "cede-guest.8", "cede-policy.5", *(f"cede-{name}.8" for name in COMMANDS),
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_of_a_command_has_its_options_and_exit_statuses(manual: Path, name: str) -> None:
    text = (manual / f"cede-{name}.8").read_text().replace("\\-", "-")
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert all(option in text for option in parameter.opts)
    for status in Exit:
        assert f".B {int(status)}\n" in text


def test_the_page_of_the_policy_has_every_key(manual: Path) -> None:
    def keys(schema: object) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(keys, schema))
        if not isinstance(schema, dict):
            return set()
        own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
        return own.union(*map(keys, schema.values()))

    text = (manual / "cede-policy.5").read_text()
    assert {
        key for key in keys(schemas.load("policy.schema.json")) if f".B {key}\n" not in text
    } == set()


def test_a_page_lists_every_resource_of_the_agent(manual: Path) -> None:
    text = (manual / "cede-agent.8").read_text().replace("\\-", "-")
    paths = re.findall(
        r"^  (/v1/\S+):$", schemas.content("agent.openapi.yaml").decode(), re.MULTILINE
    )
    assert paths
    assert {path for path in paths if f" {path}\n" not in text} == set()


def test_the_pages_are_right_in_the_eyes_of_man(manual: Path) -> None:
    """As lintian asks; where there is no man, groff, and where there is no groff either, nobody can tell."""
    files = sorted(manual.iterdir())
    plain = {**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "MANROFFSEQ": ""}
    if shutil.which("man"):
        command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]
    elif shutil.which("groff"):
        command = ["groff", "-man", "-ww", "-z", "-K", "utf8"]
    else:
        command = ["true"]
    done = subprocess.run(
        [*command, *files],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=plain,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_click_writes_the_completion_of_a_shell(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_CEDE_COMPLETE", f"{shell}_source")
    with pytest.raises(SystemExit) as ended:
        cli.main([], prog_name="cede")
    assert ended.value.code == 0
    assert f"_CEDE_COMPLETE={shell}_complete" in capsys.readouterr().out
