"""Several files that are one policy: what they say together, and how their clashes are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cede.errors import Diagnostic, FailureKind, PolicyError
from cede.model.policy import Policy
from cede.policy.policy_files import default_paths, host_policy, parse, read_all
from cede.util.clock import Clock, ThreadTimeouts
from cede.util.paths import Paths

DEVICES = """\
version: 1
devices:
  nic0: {match: {address: "0000:01:00.0"}}
  nic1: {match: {mac: "52:54:00:ce:de:01"}}
"""
ASSIGNMENTS = """\
version: 1
assignments:
  - {device: nic0, domain: ace2x1}
  - {device: nic1, domain: ace2x2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policy.d"
    folder.mkdir()
    return folder


def put(folder: Path, **files: str) -> list[Path]:
    paths = [folder / f"{name}.yaml" for name in files]
    for path, text in zip(paths, files.values(), strict=True):
        path.write_text(text)
    return paths


def diagnostics_about(*paths: Path) -> tuple[Diagnostic, ...]:
    with pytest.raises(PolicyError) as caught:
        read_all(paths)
    assert caught.value.kind is FailureKind.USAGE
    return caught.value.diagnostics


def names_and_places(*paths: Path) -> list[tuple[str, str]]:
    return [(d.name, d.place) for d in diagnostics_about(*paths)]


def test_an_assignment_may_name_a_device_of_another_file_whatever_their_order(
    folder: Path,
) -> None:
    one, two = put(folder, one=DEVICES, two=ASSIGNMENTS)
    for paths in ((one, two), (two, one), (folder,)):
        policy = read_all(paths)
        assert [d.name for d in policy.devices] == ["nic0", "nic1"]
        assert [a.device for a in policy.assignments] == ["nic0", "nic1"]
        assert {d.place.file for d in policy.devices} == {str(one)}
        assert {a.place.file for a in policy.assignments} == {str(two)}


def test_a_second_window_is_reported(folder: Path) -> None:
    window = "version: 1\nwindow: {from: 02:00, to: 04:00}\n"
    one, two = put(folder, one=window, two=window)
    assert names_and_places(one, two) == [("repeated-key", f"{two}:2:1")]


def test_everything_is_joined_in_the_order_of_the_files_names(folder: Path) -> None:
    for name in ("20", "10", "9"):
        said = f"devices: {{d{name}: {{match: {{mac: 52:54:00:00:00:{name.zfill(2)}}}}}}}"
        kept = f"protect: [{{class: '02', reason: r{name}}}]\nalternatives: [[a, b{name}]]"
        put(folder, **{name: f"version: 1\n{said}\n{kept}\n"})
    policy = read_all([folder])
    assert [d.name for d in policy.devices] == ["d10", "d20", "d9"]
    assert [p.reason for p in policy.protect] == ["r10", "r20", "r9"]
    assert policy.alternatives == (("a", "b10"), ("a", "b20"), ("a", "b9"))


def test_only_yaml_files_that_are_not_hidden_count_in_a_folder(folder: Path) -> None:
    put(folder, one=DEVICES)
    for name in ("README", "old.yaml.bak", ".#one.yaml", ".hidden.yaml"):
        (folder / name).write_text("no policy")
    assert len(read_all([folder]).devices) == 2


def test_the_source_is_the_real_path_from_any_folder_and_by_any_link(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = put(folder, one=DEVICES, two=ASSIGNMENTS)
    (folder / "link").symlink_to(one)
    assert read_all([folder]).source == f"file:{folder}"
    assert read_all([one]).source == read_all([folder / "link"]).source == f"file:{one}"
    assert read_all([one, two]).source == f"file:{one}:{two}"
    monkeypatch.chdir(folder)
    assert read_all([Path("one.yaml")]).source == f"file:{one}"
    (folder / "sub").mkdir()
    (folder / "sub" / "one.yaml").write_text(DEVICES)
    monkeypatch.chdir(folder / "sub")
    assert read_all([Path("one.yaml")]).source == f"file:{folder}/sub/one.yaml"


def test_a_file_that_is_named_twice_is_read_once(folder: Path) -> None:
    (one,) = put(folder, one=DEVICES)
    assert len(read_all([one, folder]).devices) == 2


def test_one_file_means_what_it_means_alone(folder: Path) -> None:
    (one,) = put(folder, one=DEVICES)
    assert replace(read_all([one]), source=str(one)) == parse(DEVICES, str(one))


def test_a_device_in_two_files_is_reported_with_both_places(folder: Path) -> None:
    one, two = put(folder, one=DEVICES, two=DEVICES.replace("01:00.0", "02:00.0"))
    diagnostics = diagnostics_about(folder)
    for line, diagnostic in zip((3, 4), diagnostics, strict=True):
        assert (diagnostic.name, diagnostic.place) == ("repeated-key", f"{two}:{line}:3")
        assert f"'nic{line - 3}'" in diagnostic.text
        assert f"{one}:{line}:3" in diagnostic.text


def test_one_address_under_two_names_in_two_files_is_reported_with_both_places(
    folder: Path,
) -> None:
    other = 'version: 1\ndevices: {card: {match: {address: "01:00.0"}}}\n'
    one, two = put(folder, one=DEVICES, two=other)
    (twice,) = diagnostics_about(folder)
    assert (twice.name, twice.place) == ("device-named-twice", f"{two}:2:35")
    assert all(part in twice.text for part in ("0000:01:00.0", "'nic0'", f"{one}:3:3"))


def test_a_device_with_two_owners_in_two_files_is_reported_with_both_places(folder: Path) -> None:
    other = "version: 1\nassignments: [{device: nic0, domain: other}]\n"
    _, two, three = put(folder, a=DEVICES, b=ASSIGNMENTS, c=other)
    (twice,) = diagnostics_about(folder)
    assert (twice.name, twice.place) == ("assigned-twice", f"{three}:2:24")
    assert "'nic0'" in twice.text
    assert f"'ace2x1' at {two}:3:5;" in twice.text


def test_a_third_file_may_make_the_owners_alternatives(folder: Path) -> None:
    other = "version: 1\nassignments: [{device: nic0, domain: other}]\n"
    put(folder, a=DEVICES, b=ASSIGNMENTS, c=other, d="version: 1\nalternatives: [[other, ace2x1]]")
    assert len(read_all([folder]).assignments) == 3


def test_a_device_that_no_file_has_is_reported_the_nearest_of_all_files(folder: Path) -> None:
    _, two = put(folder, one=DEVICES, two=ASSIGNMENTS.replace("nic1", "nik1"))
    (unknown,) = diagnostics_about(folder)
    assert (unknown.name, unknown.place) == ("unknown-device", f"{two}:4:14")
    assert "'nik1'" in unknown.text
    assert unknown.text.endswith("'nic1'?")


def test_every_file_needs_its_own_version(folder: Path) -> None:
    _, two = put(folder, one=DEVICES, two=ASSIGNMENTS.replace("version: 1\n", ""))
    (missing,) = diagnostics_about(folder)
    assert (missing.name, missing.place) == ("missing-key", f"{two}:1:1")
    assert "'version'" in missing.text


def test_all_diagnostics_of_all_files_come_in_the_order_of_the_files(folder: Path) -> None:
    one, two, three = put(
        folder,
        one=DEVICES + "x: 1\n",
        two="version: 2\nassignments: [{device: nic0, domain: a}]\n",
        three=DEVICES.replace("{mac", "{mak"),
    )
    diagnostics = diagnostics_about(two, one, three)
    assert [diagnostic.place for diagnostic in diagnostics] == [
        f"{two}:1:10",
        f"{one}:5:1",
        f"{three}:3:3",
        f"{three}:4:18",
    ]


def test_what_may_be_in_an_unreadable_file_is_not_said_to_be_missing(folder: Path) -> None:
    one, two = put(folder, one="version: [", two=ASSIGNMENTS)
    assert names_and_places(folder) == [("no-yaml", f"{one}:1:11")]
    one.unlink()
    assert names_and_places(one, two) == [("no-such-file", str(one))]


def test_a_missing_file_is_reported_with_the_diagnostics_about_the_others(folder: Path) -> None:
    (one,) = put(folder, one="version: 2\n")
    missing = folder / "missing.yaml"
    with pytest.raises(PolicyError) as caught:
        read_all([one, missing])
    assert [(d.name, d.place) for d in caught.value.diagnostics] == [
        ("unexpected-value", f"{one}:1:10"),
        ("no-such-file", str(missing)),
    ]
    assert caught.value.remedy


def test_a_folder_without_policy_files_is_an_error_with_a_remedy(folder: Path) -> None:
    with pytest.raises(PolicyError) as caught:
        read_all([folder])
    assert caught.value.name == "no-policy-file"
    assert str(folder) in caught.value.message
    assert caught.value.remedy


def test_an_empty_folder_beside_a_file_is_no_error(folder: Path) -> None:
    file = folder.parent / "policy.yaml"
    file.write_text(DEVICES)
    assert len(read_all([file, folder]).devices) == 2


def test_no_path_at_all_is_an_error() -> None:
    with pytest.raises(PolicyError) as caught:
        read_all([])
    assert caught.value.name == "no-policy-file"


def test_a_path_that_no_file_can_have_is_an_error() -> None:
    assert names_and_places(Path("a\0b")) == [("unreadable", "a\0b")]


def test_a_folder_that_ends_in_yaml_within_a_folder_is_reported(folder: Path) -> None:
    (folder / "sub.yaml").mkdir()
    assert names_and_places(folder) == [("is-a-directory", f"{folder / 'sub.yaml'}")]


def test_the_default_paths_are_those_that_exist_or_else_the_file(tmp_path: Path) -> None:
    file, folder = tmp_path / "policy.yaml", tmp_path / "policy.d"
    assert default_paths(file, folder) == (file,)
    folder.mkdir()
    assert default_paths(file, folder) == (folder,)
    file.touch()
    assert default_paths(file, folder) == (file, folder)
    folder.rmdir()
    assert default_paths(file, folder) == (file,)


def test_a_default_path_that_leads_nowhere_or_may_not_be_seen_is_not_passed_over(
    tmp_path: Path,
) -> None:
    class Forbidden(type(tmp_path)):  # type: ignore[misc]
        def lstat(self) -> None:
            raise PermissionError

    file, folder = tmp_path / "policy.yaml", tmp_path / "policy.d"
    folder.symlink_to(tmp_path / "gone")
    assert default_paths(file, folder) == (folder,)
    assert default_paths(Forbidden(file), Forbidden(folder)) == (file, folder)


class RecordedTimeouts(ThreadTimeouts):
    """Keeps the answers of the calls that had a time limit."""

    def __init__(self) -> None:
        self.answers: list[object] = []

    def call(self, what: str, call: Callable[[], Any], **limits: Any) -> Any:  # noqa: ANN401 - as the call
        answer = super().call(what, call, **limits)
        self.answers.append(answer)
        return answer


@dataclass
class StarvedHost:
    """A dom0 whose processor is busy with its guests."""

    paths: Paths = field(default_factory=Paths)
    clock: Clock = field(default_factory=lambda: Clock(sleep=lambda _: None))
    timeouts: RecordedTimeouts = field(default_factory=RecordedTimeouts)
    shapes: set[tuple[bytes, bytes]] = field(default_factory=set)


@pytest.mark.parametrize("text", [DEVICES, "version: wrong"])
def test_only_reading_has_a_time_limit_and_not_understanding(tmp_path: Path, text: str) -> None:
    """A file can hang for good, the schema's check only takes long: it was 30 s under nine plugs at once."""
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    host = StarvedHost()
    if text == DEVICES:
        assert host_policy(path, host).devices
    else:
        with pytest.raises(PolicyError):
            host_policy(path, host)
    assert host.timeouts.answers
    assert not [one for one in host.timeouts.answers if isinstance(one, Policy | PolicyError)]
