"""The command line over a simulated host: exit statuses, what is shown, and JSON that fits its schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from cede.cli import main as command_line
from cede.domain_xml import document
from cede.errors import HungError, PermanentError, UnreachableError, WorldMovedError
from cede.model.pci import Address
from cede.model.policy import Channel
from cede.util import schemas
from cede.verifier.checklist import CheckStatus
from sim import probe_answers
from sim.config_spaces import E1000
from unit.decisions import of_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cede.adapters.runtime import Runtime
    from sim.in_files import SimulatedHost

NIC = "0000:01:00.0"
GOLDEN = Path(__file__).parent.parent / "golden"
POLICY = """\
version: 1
devices:
  nic0:
    match: {address: "0000:01:00.0"}
    expect: {vendor: "8086"}
assignments:
  - {device: nic0, domain: pv1}
"""
PCI_IDS = """\
8086  Intel Corporation
\t10d3  82574L Gigabit Network Connection
C 02  Network controller
\t00  Ethernet controller
"""


@dataclass(frozen=True)
class Shown:
    status: int
    out: str
    err: str

    def json(self, schema: str) -> Any:  # noqa: ANN401 - JSON is any
        """What was printed, which has to fit the schema."""
        said = json.loads(self.out)
        Draft202012Validator(schemas.load(f"{schema}.schema.json")).validate(said)
        return said


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


@pytest.fixture
def cede(
    host: SimulatedHost,
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    runtime_of: Callable[[], Runtime],
) -> Callable[..., Shown]:
    """Runs `cede ARGUMENTS` as the installed command does, on `host`, with `policy` as the default."""
    names = host.paths.pci_ids[0]
    names.parent.mkdir(parents=True)
    names.write_text(PCI_IDS)
    monkeypatch.delenv("LIBVIRT_DEFAULT_URI", raising=False)
    host.guest_says = probe_answers.whole()

    def run(*arguments: str, on: Path | None = policy) -> Shown:
        option = ["-f", str(on)] if on is not None and "devices" not in arguments else []
        with pytest.raises(SystemExit) as ended:
            command_line.main([*arguments, *option], runtime_of())
        assert isinstance(ended.value.code, int)
        captured = capsys.readouterr()
        return Shown(ended.value.code, captured.out, captured.err)

    return run


def decisions(checked: Any) -> dict[str, str]:  # noqa: ANN401 - JSON is any
    """By source of a finding what it says of one subject."""
    return {finding["source"]: finding["status"] for finding in checked["findings"]}


def refusals(shown: Shown) -> tuple[int, list[str]]:
    """The exit status, and the rules that refuse."""
    return shown.status, [one["rule"] for one in of_kind(shown.json("report")["plan"], "refused")]


def test_the_diff_of_a_plan_has_what_is_added_and_no_other_line_of_the_xml(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    whole = (GOLDEN / "pv_inactive.xml").read_text(encoding="utf-8")
    host.guests["pv1"].config = document.without_hostdev(whole, Address.parse(NIC))
    shown = cede("plan", "--diff").out
    diff = shown[shown.index("--- pv1.xml") :].splitlines()[2:]
    assert [line for line in diff if line.startswith("-")] == []
    assert len([line for line in diff if line.startswith("+")]) == 5 + 6, "its note, the hostdev"
    assert len(diff) == 5 + 6 + 2 * 3, "each with the lines around it, and their numbers"


def test_the_whole_job_is_planned_done_verified_and_taken_back(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    planned = cede("plan", "--json")
    assert planned.status == 4
    assert planned.json("plan")["plan"]["decisions"][0]["actions"][0]["action"] == "load-pciback"
    assert host.journal == []
    applied = cede("apply", "--json")
    assert applied.status == 0, applied.out
    (checked,) = applied.json("report")["checked"]
    assert (checked["subject"], checked["verified"]) == ("nic0 -> pv1", True)
    assert decisions(checked)["guest lspci"] == "passed"
    assert cede("plan").status == 0
    assert cede("status").status == 0
    assert cede("verify").status == 0
    done = list(host.journal)
    again = cede("apply", "--json")
    assert (again.status, again.json("report")["outcomes"]) == (0, [])
    assert host.journal == done
    assert cede("release", "nic0").status == 0
    assert cede("status").status == 4
    released = cede("release", NIC, "--json")
    assert (
        released.status,
        [one["decision"] for one in released.json("report")["plan"]["decisions"]],
    ) == (0, ["satisfied"])


def test_libvirt_that_goes_while_it_is_verified_is_asked_again(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.fails["console"] = [UnreachableError("libvirt doesn't answer")] * 2
    applied = cede("apply", "--json")
    assert (applied.status, applied.json("report")["checked"][0]["verified"]) == (0, True)


def test_what_was_done_is_reported_also_when_it_cannot_be_verified(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.fails["console"] = [PermanentError("the sky fell")]
    applied = cede("apply", "--json")
    assert applied.status == 1
    report = applied.json("report")
    tried = {one["action"]["action"]: one["error"] for one in report["outcomes"][0]["tried"]}
    assert tried["hot-plug"] is None
    assert decisions(report["checked"][0])["guest"] == CheckStatus.UNVERIFIED
    assert "the sky fell" in report["checked"][0]["findings"][-1]["found"]


def test_one_assignment_out_of_sync_is_enough(cede: Callable[..., Shown], policy: Path) -> None:
    assert cede("apply", "--yes").status == 0
    second = (
        '  nic1: {match: {address: "02:00.0"}}\nassignments:\n  - {device: nic1, domain: pv1}\n'
    )
    policy.write_text(POLICY.replace("assignments:\n", second))
    checked = cede("status", "--json").json("status")
    assert (checked["exit"], [one["verified"] for one in checked["checked"]]) == (4, [False, True])


def test_every_json_output_fits_its_schema(cede: Callable[..., Shown], host: SimulatedHost) -> None:
    disk = host.tree.function(
        "0000:00:03.0", driver="virtio-pci", class_code="010000", config=E1000
    )
    host.tree.mount("/", host.tree.disk("vda", disk))
    rows = cede("devices", "--json").json("devices")["devices"]
    assert [(row["address"], row["holder"], len(row["uses"])) for row in rows] == [
        ("0000:00:03.0", "dom0", 1),
        (NIC, "dom0", 0),
        ("0000:02:00.0", "dom0", 0),
    ]
    actions = cede("plan", "--json").json("plan")["plan"]["decisions"][0]["actions"]
    assert [s["action"] for s in actions] == [
        "load-pciback",
        "bind-to-pciback",
        "hot-plug",
        "switch-on",
        "add-to-config",
    ]
    before = cede("status", "--json")
    assert (before.status, before.json("status")["exit"]) == (4, 4)
    applied = cede("apply", "--json").json("report")
    assert (applied["exit"], applied["checked"][0]["verified"]) == (0, True)
    assert [tried["error"] for tried in applied["outcomes"][0]["tried"]] == [None] * 5
    assert of_kind(cede("plan", "--json").json("plan")["plan"], "satisfied")
    assert cede("devices", "--json").json("devices")["devices"][1]["holder"] == "pv1"
    assert cede("verify", "--json").json("status")["checked"][0]["verified"]
    released = cede("release", NIC, "--json").json("report")
    actions = [tried["action"]["action"] for tried in released["outcomes"][0]["tried"]]
    assert actions == ["unplug", "remove-from-config", "return-to-dom0"]


STATIONS = [
    "module loaded",
    "loaded at boot",
    "driver directory",
    "device bound",
    "assignable",
    "kernel line",
    "devices of the domain",
    "guest lspci",
    "guest driver",
    "guest claims",
    "guest dmesg",
    "permanent in the config",
    "after shutdown and start",
]


def test_the_whole_way_is_explained_station_by_station(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    root = host.tree.sys.parent
    assert cede("apply", "--yes").status == 0
    (root / "sys/module/xen_pciback").mkdir(parents=True)
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/modules").write_text("xen_pciback 106496 3 - Live 0x0000000000000000\n")
    (root / "etc/modules-load.d").mkdir(parents=True)
    (root / "etc/modules-load.d/xen.conf").write_text("# the cards\nxen-pciback\n")
    host.kernel_said = [f"pciback {NIC}: xen_pciback: vpci: assign to virtual slot 0"]
    (explained,) = cede("verify", "--explain", "--json").json("status")["explained"]
    assert [check["item"] for check in explained["checks"]] == STATIONS
    assert [check["status"] for check in explained["checks"]] == ["passed"] * 12 + [
        CheckStatus.UNVERIFIED
    ]
    assert explained["checks"][1]["found"] == "/etc/modules-load.d/xen.conf"
    assert cede("verify", "--explain").status == 0


def test_what_is_missing_on_the_way_is_reported_with_what_mends_it(
    cede: Callable[..., Shown],
) -> None:
    shown = cede("verify", "--explain", "--json")
    assert shown.status == 4
    (explained,) = shown.json("status")["explained"]
    checks = {check["item"]: check for check in explained["checks"]}
    assert checks["module loaded"]["status"] == checks["loaded at boot"]["status"] == "failed"
    assert "/etc/modules-load.d/xen-pciback.conf" in checks["loaded at boot"]["found"]
    assert checks["guest lspci"]["status"] == CheckStatus.UNVERIFIED


def test_a_guest_in_sync_is_shut_down_started_and_verified_again(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    shown = cede("verify", "--restart", "--explain", "--json")
    assert shown.status == 0, shown.out
    assert host.journal[-4:-1] == ["console pv1", "shut-down pv1", "start pv1"]
    reported = shown.json("status")
    last = reported["explained"][0]["checks"][-1]
    assert (last["item"], last["status"]) == ("after shutdown and start", "passed")
    assert (reported["restarted"], reported["error"]) == (["pv1"], None)


def test_a_guest_out_of_sync_is_not_restarted(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("verify", "--restart", "--yes").status == 4
    assert not {"shut-down pv1", "start pv1"} & set(host.journal)


def test_a_guest_that_does_not_shut_down_is_left_running_and_reported(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    host.deaf = True
    shown = cede("verify", "--restart", "--json")
    reported = shown.json("status")
    assert (shown.status, reported["restarted"], reported["error"]["kind"]) == (
        75,
        [],
        "try-later",
    )
    assert "start pv1" not in host.journal


def test_a_failure_and_a_refusal_fit_the_schema_of_a_report_too(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    host.fails["bind_to_pciback"] = [PermanentError("no", remedy="do")]
    failed = cede("apply", "--json")
    report = failed.json("report")
    error = {"name": "failed", "message": "no", "remedy": "do", "kind": "failed"}
    assert (failed.status, report["exit"], report["outcomes"][0]["error"]) == (1, 1, error)
    policy.write_text(POLICY.replace("domain: pv1", "domain: nobody"))
    refused = cede("apply", "--json")
    assert refused.status == refused.json("report")["exit"] == 2
    assert of_kind(cede("plan", "--json").json("plan")["plan"], "refused")[0]["remedy"]
    assert cede("verify", "--json").json("status")["checked"][0]["findings"][0]["status"] == (
        "failed"
    )


def _fields(said: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - JSON is any
    for name, value in said.items() if isinstance(said, dict) else enumerate(said):
        if isinstance(said, dict):
            yield (*at, name)
        if isinstance(value, (dict, list)):
            yield from _fields(value, (*at, name))


def _inside(said: Any, path: tuple[Any, ...]) -> Any:  # noqa: ANN401 - JSON is any
    for name in path:
        said = said[name]
    return said


def test_a_schema_misses_no_field_that_is_gone_new_or_of_another_type(
    cede: Callable[..., Shown],
) -> None:
    outputs = [
        ("devices", cede("devices", "--json")),
        ("import", cede("import", "--hide", "(01:00.0)", "--json", on=None)),
        ("plan", cede("plan", "--json")),
        ("status", cede("status", "--json")),
        ("status", cede("verify", "--explain", "--json")),
        ("report", cede("apply", "--json")),
        ("history", cede("history", "--json", on=None)),
        ("pause", cede("pause", "pv1", "--reason", "tests", "--json")),
        ("report", cede("resume", "--json")),
        ("report", cede("drain", "--json")),
        ("doctor", cede("doctor", "--json", on=None)),
    ]
    for name, shown in outputs:
        validator = Draft202012Validator(schemas.load(f"{name}.schema.json"))
        for *parent, field in _fields(shown.json(name)):
            for spoil in ("gone", "new", "type"):
                said = json.loads(shown.out)
                inside = _inside(said, tuple(parent))
                if spoil == "new":
                    inside["surprise"] = 1
                elif spoil == "gone":
                    del inside[field]
                else:
                    inside[field] = {"a": "stranger"}
                assert not validator.is_valid(said), (name, *parent, field, spoil)


def test_a_missing_policy_file_is_named(cede: Callable[..., Shown], tmp_path: Path) -> None:
    for command in ("plan", "apply", "status", "verify"):
        shown = cede(command, on=tmp_path / "missing.yaml")
        assert shown.status == 2
        assert str(tmp_path / "missing.yaml") in shown.err
        assert shown.out == ""


def test_an_error_is_one_json_object_if_the_command_was_to_print_json(
    cede: Callable[..., Shown], policy: Path, host: SimulatedHost
) -> None:
    host.silent = UnreachableError("no answer", name="no-libvirt", remedy="start libvirtd")
    for command in ("apply", "plan"):
        shown = cede(command, "--json")
        said = shown.json("error")
        assert shown.out.count("\n") == 1, "also a line of `status --watch`"
        assert (shown.status, said["exit"], said["error"], said["diagnostics"]) == (
            75,
            75,
            {"name": "no-libvirt", "message": "no answer", "remedy": "start libvirtd", "kind": "try-later"},
            [],
        )  # fmt: skip
        assert shown.err == cede(command).err != ""
    policy.write_text("version: 1\ndevcies: {}\nassignments: 3\n")
    said = cede("plan", "--json").json("error")
    assert (said["exit"], said["error"]["kind"]) == (2, "usage")
    assert [(d["place"], d["name"]) for d in said["diagnostics"]] == [
        (f"{policy}:2:1", "unknown-key"),
        (f"{policy}:3:14", "unexpected-value"),
    ]


@pytest.mark.parametrize(
    "arguments", [("plan", "--json", "--nonsense"), ("--json", "plan"), ("nonsense", "--json"), ("attach", "--json")]
)  # fmt: skip
def test_a_wrong_command_line_is_one_json_object_if_json_is_in_it(
    cede: Callable[..., Shown], arguments: tuple[str, ...]
) -> None:
    shown = cede(*arguments)
    said = shown.json("error")
    assert (shown.status, said["exit"], said["error"]["name"]) == (2, 2, "wrong-command-line")
    assert said["error"]["message"] in shown.err


def test_a_wrong_command_line_without_json_prints_text_alone(cede: Callable[..., Shown]) -> None:
    shown = cede("plan", "--nonsense")
    assert (shown.status, shown.out, "--nonsense" in shown.err) == (2, "", True)


def test_a_wrong_policy_file_is_reported_with_its_line(
    cede: Callable[..., Shown], policy: Path, host: SimulatedHost
) -> None:
    policy.write_text("version: 1\ndevcies: {}\n")
    shown = cede("apply")
    assert (shown.status, host.journal) == (2, [])
    assert f"{policy}:2:1: " in shown.err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("release", "nosuch"), 2, "has: nic0"),
        (("release", "0000:0f:00.0"), 2, "`cede devices`"),
        (("release",), 2, "'DEVICE'"),
        (("frobnicate",), 2, "frobnicate"),
        (("plan", "--frob"), 2, "--frob"),
        (("attach", NIC, "pv1", "--verify", "x"), 2, "'console', 'ssh', "),
    ],
)
def test_a_wrong_command_line_says_what_would_be_right(
    cede: Callable[..., Shown], arguments: tuple[str, ...], status: int, said: str
) -> None:
    shown = cede(*arguments)
    assert (shown.status, said in shown.err) == (status, True), shown.err


def test_without_a_command_the_help_is_shown_and_nothing_counts_as_done(
    cede: Callable[..., Shown],
) -> None:
    shown = cede(on=None)
    assert (shown.status, shown.out) == (2, "")
    assert "--connect" in shown.err


@pytest.mark.parametrize(
    ("channel", "source", "status"),
    [("console", "guest driver", CheckStatus.PASSED), ("none", "guest", CheckStatus.INFO)],
)
def test_a_one_off_attach_asks_the_guest_through_the_channel_that_is_named(
    cede: Callable[..., Shown], host: SimulatedHost, channel: str, source: str, status: CheckStatus
) -> None:
    assert f"--verify [{'|'.join(Channel)}]" in cede("attach", "--help", on=None).out
    shown = cede("attach", NIC, "pv1", "--verify", channel, "--json")
    assert shown.status == 0, shown.out + shown.err
    assert decisions(shown.json("report")["checked"][0])[source] == status
    assert ("console pv1" in host.journal) == (channel == "console")


def test_a_release_by_address_needs_no_policy_file(
    cede: Callable[..., Shown], tmp_path: Path
) -> None:
    assert cede("release", "01:00.0", on=tmp_path / "missing.yaml").status == 0


def test_the_hosts_own_disk_is_refused_with_a_remedy_and_the_status_for_unsafe(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.tree.mount("/", host.tree.disk("sda", host.tree.sys / "bus/pci/devices" / NIC))
    for command, schema in (("plan", "plan"), ("apply", "report"), ("release", "report")):
        shown = cede(command, *([NIC] if command == "release" else []), "--json")
        (refusal,) = of_kind(shown.json(schema)["plan"], "refused")
        assert (shown.status, refusal["rule"]) == (3, "host-needs-it")
    assert host.journal == []


@pytest.mark.parametrize(
    ("verb", "error", "status"),
    [
        ("plug", PermanentError("libxl said no", remedy="read its log"), 1),
        ("plug", WorldMovedError("it went", remedy="plan again"), 75),
    ],
)
def test_an_action_that_fails_says_why_and_what_to_do(
    cede: Callable[..., Shown], host: SimulatedHost, verb: str, error: PermanentError, status: int
) -> None:
    host.fails[verb] = [error]
    shown = cede("apply", "--yes")
    assert shown.status == status
    assert error.message in shown.out
    assert error.remedy in shown.out


def test_a_device_that_hung_is_left_alone_until_it_is_released_by_name(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.fails["plug"] = [HungError("plugging has hung")]
    assert cede("apply", "--yes").status == 1
    done = list(host.journal)
    for _ in range(2):
        assert refusals(cede("apply", "--json")) == (1, ["held"])
    assert [held.reason for held in host.written.load_state().held] == ["plugging has hung"]
    assert host.journal == done
    assert cede("release", NIC).status == 0
    assert cede("apply", "--yes").status == 0


def test_a_device_that_hangs_when_it_is_released_is_left_alone_again(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.fails["plug"] = [HungError("plugging has hung")]
    host.fails["reattach"] = [HungError("binding has hung")]
    assert cede("apply", "--yes").status == 1
    assert cede("release", NIC).status == 1
    assert refusals(cede("apply", "--json")) == (1, ["held"])
    assert [held.reason for held in host.written.load_state().held] == ["binding has hung"]


def test_a_release_frees_only_its_own_device_and_a_refused_one_none(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    for address in (NIC, "0000:02:00.0"):
        host.written.hold(Address.parse(address), "it has hung")
    used = host.tree.disk("sda", host.tree.sys / "bus/pci/devices" / NIC)
    host.tree.mount("/", used)
    assert cede("release", NIC).status == 3
    assert len(host.written.load_state().held) == 2
    (host.tree.proc / "self/mountinfo").write_text("")
    assert cede("release", NIC).status == 1, "nobody can tell what is mounted"
    (host.tree.proc / "self/mountinfo").write_text("22 1 0:21 / / rw - overlay overlay rw\n")
    assert cede("release", NIC).status == 0
    assert [str(held.address) for held in host.written.load_state().held] == ["0000:02:00.0"]


def test_a_vanished_device_stays_listed_and_removable(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    gone = Address(0, 9, 0, 0)
    host.guests["pv1"].config = document.with_hostdev(
        host.guests["pv1"].config, gone, "ua-cede-old"
    )
    assert "0000:09:00.0" in cede("devices").out
    listed = cede("devices", "--json").json("devices")["vanished"]
    assert listed == [{"address": "0000:09:00.0", "domains": ["pv1"]}]
    assert cede("release", "09:00.0").status == 0
    assert cede("devices", "--json").json("devices")["vanished"] == []


def test_a_host_that_doesnt_answer_is_reported_on_standard_error(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.silent = silent = UnreachableError("libvirt doesn't answer", remedy="start it")
    shown = cede("devices")
    assert (shown.status, shown.out) == (75, "")
    assert silent.message in shown.err
    assert silent.remedy in shown.err


@pytest.mark.parametrize(
    ("said", "source", "decision"),
    [
        (
            probe_answers.whole(
                probe_answers.RECORD.replace("Driver:\te1000e\n", ""),
                probe_answers.SYSFS.replace("DRIVER=e1000e\n", ""),
            ),
            "guest driver",
            "failed",
        ),
        (
            probe_answers.whole(
                probe_answers.RECORD.replace("10d3", "100e"),
                probe_answers.SYSFS.replace("10D3", "100E"),
            ),
            "guest lspci",
            "failed",
        ),
        (probe_answers.whole("", "", ""), "guest lspci", "failed"),
        (probe_answers.whole().replace("|D0|\n", ""), "guest", "not verified"),
    ],
)
def test_a_guest_that_doesnt_have_the_device_makes_a_done_plan_a_failure(
    cede: Callable[..., Shown], host: SimulatedHost, said: str, source: str, decision: str
) -> None:
    host.guest_says = said
    shown = cede("apply", "--json")
    assert shown.status == 1
    against = {
        s: v for s, v in decisions(shown.json("report")["checked"][0]).items() if v != "passed"
    }
    assert against == {source: decision}
    assert cede("verify").status == 4


def test_the_connection_is_the_options_else_the_environments_else_xens(
    cede: Callable[..., Shown],
    host: SimulatedHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cede("devices")
    monkeypatch.setenv("LIBVIRT_DEFAULT_URI", "xen+ssh://host/system")
    cede("devices")
    cede("--connect", "xen+unix:///system", "devices")
    assert host.opened == ["xen:///system", "xen+ssh://host/system", "xen+unix:///system"]


def test_a_table_of_devices_reports_who_has_each_and_why_it_stays(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.tree.bind("0000:02:00.0", "pciback")
    host.tree.slots("0000:02:00.0")
    host.store.nodes |= {
        "/local/domain/0/backend/pci/7/0/num_devs": "1",
        "/local/domain/0/backend/pci/7/0/dev-0": NIC,
        "/local/domain/7/name": "theirs",
    }
    lines = cede("devices").out.splitlines()
    assert lines[0].split() == ["ADDRESS", "DRIVER", "WITH", "FIT", "HAS", "WHAT"]
    assert lines[1].split()[:4] == [NIC, "e1000e", "domain", "7"]
    assert "8086:10d3 82574L" in lines[1]
    assert lines[2].split()[:4] == ["0000:02:00.0", "pciback", "assignable", "yes"]
    assert max(map(len, lines)) <= 100


def test_a_device_that_hung_is_left_alone_until_a_person_asks_for_it_by_name(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    host.written.hold(Address.parse(NIC), "unbinding it hung")
    assert refusals(cede("apply", "--json")) == (1, ["held"])
    assert host.journal == []
    assert cede("release", NIC).status == 0
    assert cede("apply", "--yes").status == 0


def test_a_device_that_hung_is_not_taken_out_either_when_it_leaves_the_policy(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    assert cede("apply", "--yes").status == 0
    host.written.hold(Address.parse(NIC), "asking for it hung")
    host.journal.clear()
    policy.write_text("version: 1\n")
    assert cede("apply", "--yes", "--prune").status == 1
    assert host.journal == []


def test_what_was_on_its_way_to_another_domain_is_dom0s_if_nobody_wants_it_any_more(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    assert cede("apply", "--yes").status == 0
    policy.write_text(POLICY.replace("pv1", "pv2"))
    assert cede("apply", "--yes").status == 75
    assert host.written.load_state().unfinished[0].return_to_dom0
    policy.write_text("version: 1\n")
    assert cede("apply", "--yes").status == 0
    assert host.journal[-1] == f"reattach {NIC}"
    assert not host.written.load_state().unfinished


def test_a_card_that_comes_back_after_it_was_struck_from_the_xml_is_dom0s(
    cede: Callable[..., Shown], host: SimulatedHost, policy: Path
) -> None:
    assert cede("apply", "--yes").status == 0
    host.happens("destroy pv1")
    host.happens(f"vanish {NIC}")
    policy.write_text("version: 1\n")
    assert cede("apply", "--yes", "--prune").status == 0
    assert "<hostdev" not in host.guests["pv1"].config
    assert cede("apply", "--yes").status == 0
    host.happens(f"appear {NIC}")
    assert cede("apply", "--yes").status == 0
    assert host.journal[-1] == f"reattach {NIC}"
    assert not host.written.load_state().unfinished


def test_a_guest_that_starts_while_the_host_is_observed_is_seen_as_it_is_then(
    cede: Callable[..., Shown], host: SimulatedHost
) -> None:
    assert cede("apply", "--yes").status == 0
    guest = host.guests["pv1"]
    running, guest.live = guest.live, None

    def started_meanwhile(domains: Callable[[], object]) -> object:
        found = domains()
        guest.live = running
        del host.instead["domains"]
        return found

    host.instead["domains"] = started_meanwhile
    released = cede("release", NIC)
    assert (released.status, "unplug" in released.out) == (0, True)


def asked_person(
    monkeypatch: pytest.MonkeyPatch, *answers: Callable[[], bool]
) -> list[Callable[[], bool]]:
    """One at a terminal who gives these answers, one for each prompt; returned are those not given yet."""
    left = list(answers)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.confirm", lambda *_, **__: left.pop(0)())
    return left


def test_a_prompt_holds_no_lock_and_the_plan_is_shown_once(
    cede: Callable[..., Shown], host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_person(monkeypatch, lambda: not host.paths.lock.exists())
    shown = cede("apply")
    assert (shown.status, f"plug pv1 {NIC}" in host.journal) == (0, True)
    assert shown.out.count("hot-plug") == 2  # in the plan and as it is done


def test_a_host_that_changes_during_the_prompt_gets_what_its_new_plan_says(
    cede: Callable[..., Shown], host: SimulatedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mounted() -> bool:
        card = (host.tree.sys / "bus/pci/devices" / NIC).resolve()
        host.tree.mount("/srv", host.tree.disk("sda", card))
        return True

    asked_person(monkeypatch, mounted)
    shown = cede("apply")
    assert (shown.status, host.journal) == (3, [])
    assert "changed since" in shown.err
    assert "REFUSED" in shown.out


@pytest.mark.parametrize("agrees", [True, False])
def test_a_plan_that_is_another_one_after_the_prompt_is_asked_for_again(
    cede: Callable[..., Shown],
    host: SimulatedHost,
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
    agrees: bool,
) -> None:
    def moved() -> bool:
        policy.write_text(POLICY.replace("pv1", "pv2"))
        return True

    left = asked_person(monkeypatch, moved, lambda: agrees)
    shown = cede("apply")
    assert left == []
    assert "changed since" in shown.err
    assert f"plug pv1 {NIC}" not in host.journal
    assert (f"plug pv2 {NIC}" in host.journal) is agrees
    assert shown.status == (0 if agrees else 4)
