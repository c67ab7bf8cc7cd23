"""`cede boot` over a simulated host: exit statuses, what is shown, JSON that fits its schema, and no libvirt."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from cede.cli.main import cli
from cede.errors import FailureKind, PermanentError, UnreachableError
from cede.util import schemas
from unit.decisions import of_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from sim.in_files import SimulatedHost

NIC = "0000:01:00.0"
POLICY = """\
version: 1
devices:
  nic0: {match: {address: "0000:01:00.0"}}
  own: {match: {address: "0000:00:02.0"}}
assignments:
  - {device: nic0, domain: pv1}
"""
OWN = "  - {device: own, domain: pv1}\n"
BOOT_CONFIGURATION = {
    "proc/cmdline": "ro xen-pciback.hide=(00:02.0)(oops)\n",
    "etc/modprobe.d/old.conf": "options xen-pciback hide=(01:00.0)\n",
}


@pytest.fixture
def alone(host: SimulatedHost) -> SimulatedHost:
    """Reached over a card of its own; libvirt and xenstore must not be asked."""
    host.tree.function("0000:00:02.0", driver="virtio-pci", net={"eth9": "52:54:00:00:00:09"})
    host.tree.route("eth9")

    host.silent = UnreachableError("nothing may ask libvirt here")
    for path, text in BOOT_CONFIGURATION.items():
        (host.paths.root / path).parent.mkdir(parents=True, exist_ok=True)
        (host.paths.root / path).write_text(text)
    return host


@pytest.fixture
def boot(alone: SimulatedHost, tmp_path: Path) -> Callable[..., Result]:
    def run(*arguments: str, policy: str = POLICY) -> Result:
        (tmp_path / "policy.yaml").write_text(policy)
        options = ["-f", str(tmp_path / "policy.yaml"), "--wait", "0", *arguments]
        return CliRunner().invoke(
            cli, ["boot", *options], standalone_mode=False, obj=alone.runtime()
        )

    return run


def said(result: Result, schema: str) -> Any:  # noqa: ANN401 - JSON is any
    found = json.loads(result.output)
    Draft202012Validator(schemas.load(f"{schema}.schema.json")).validate(found)
    return found


def test_it_binds_and_says_so_and_a_second_time_does_nothing(boot: Callable[..., Result]) -> None:
    first = boot("--json")
    assert first.return_value == 0, first.output
    (done,) = said(first, "report")["outcomes"]
    assert [(one["action"]["action"], one["error"]) for one in done["tried"]] == [
        ("load-pciback", None), ("bind-to-pciback", None),
    ]  # fmt: skip
    second = boot("--json")
    report = said(second, "report")
    assert (second.return_value, report["outcomes"]) == (0, [])
    assert [(one["decision"], one["subject"]) for one in report["plan"]["decisions"]] == [
        ("satisfied", done["subject"])
    ]


def test_what_people_read_of_it_is_the_golden_text(
    boot: Callable[..., Result], golden: Callable[[str, str], None]
) -> None:
    shown = [boot(*options, policy=POLICY + OWN).output for options in (("--plan",), (), ())]
    golden("boot.txt", re.sub(r"\d+\.\d s", "0.0 s", "\n".join(shown)))


def test_the_plan_touches_nothing_and_asks_for_a_pass(
    boot: Callable[..., Result], alone: SimulatedHost
) -> None:
    for option in ("--plan", "--dry-run"):
        shown = boot(option)
        assert (shown.return_value, alone.journal) == (4, [])
    (change,) = of_kind(said(boot("--plan", "--json"), "plan")["plan"], "change")
    assert [action["action"] for action in change["actions"]] == ["load-pciback", "bind-to-pciback"]


def test_what_the_host_needs_is_refused_and_the_other_bound(boot: Callable[..., Result]) -> None:
    shown = boot("--json", policy=POLICY + OWN)
    assert shown.return_value == 3
    report = said(shown, "report")
    assert [one["error"] for one in report["outcomes"]] == [None]
    assert [(one["subject"], one["rule"]) for one in of_kind(report["plan"], "refused")] == [
        ("own -> pv1", "host-needs-it")
    ]


def test_a_report_fits_its_schema(boot: Callable[..., Result], alone: SimulatedHost) -> None:
    alone.fails["bind_to_pciback"] = [PermanentError("no", remedy="try")]
    found = said(boot("--json"), "report")
    assert (found["exit"], found["outcomes"][0]["error"]["message"]) == (1, "no")


def test_files_and_mistakes_fit_their_schema(boot: Callable[..., Result]) -> None:
    shown = boot("--print", "--json", policy=POLICY + OWN)
    found = said(shown, "boot")
    assert found["devices"] == [NIC]
    assert [mistake["name"] for mistake in found["mistakes"]] == [
        "malformed", "guarded", "overruled", "late",
    ]  # fmt: skip
    assert shown.return_value == found["exit"] == 3


def test_what_is_printed_is_the_golden_text(
    boot: Callable[..., Result], golden: Callable[[str, str], None]
) -> None:
    golden("boot_print.txt", boot("--print", policy=POLICY + OWN).output)


def test_two_questions_at_once_are_an_error_of_the_command_line(
    boot: Callable[..., Result],
) -> None:
    asked = boot("--plan", "--print")
    assert getattr(asked.exception, "kind", None) is FailureKind.USAGE


def test_the_unit_begins_in_time_and_never_keeps_the_host_from_booting() -> None:
    path = Path(__file__).parents[2] / "contrib/systemd/cede-boot.service"
    lines = [line.partition("=") for line in path.read_text().splitlines() if "=" in line]
    reported: dict[str, list[str]] = {}
    for name, _, value in lines:
        reported.setdefault(name, []).extend(value.split())
    services = {
        "libvirtd.service",
        "virtxend.service",
        "virtnodedevd.service",
        "xendomains.service",
    }
    assert services < set(reported["Before"])
    assert {"local-fs.target", "swap.target"} < set(reported["After"])
    assert "network-pre.target" in reported["Before"]
    assert not {"RequiredBy", "Requires", "BindsTo"} & set(reported)
    limit = float(reported["ExecStart"][reported["ExecStart"].index("--limit") + 1])
    assert limit + 90 < float(reported["TimeoutStartSec"][0])
