"""The examples of contrib/docs/agent.md, run by curl against the agent of a simulated host."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from sim.in_files import SimulatedHost
from unit.http_client import eventually
from unit.test_agent import Served, policy, served

__all__ = ["policy", "served"]
DOCUMENT = Path(__file__).parents[2] / "contrib/docs/agent.md"
EXAMPLES = re.findall(r"^curl .*$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
_ENDS_BY_TIME = 28  # curl(1), EXIT CODES


def run(example: str, served: Served, host: SimulatedHost, operation: str) -> str:
    told = {
        "/run/cede/cede.sock": str(served.path),
        "/etc/cede/policy.yaml": str(host.paths.policy),
        "$ID": operation,
    }
    for written, meant in told.items():
        example = example.replace(written, meant)
    endless = example.endswith("/v1/events")
    limits = ["--silent", "--show-error", "--fail-with-body", "--max-time", "0.5" if endless else "20"]  # fmt: skip
    done = subprocess.run(
        [*shlex.split(example), *limits], capture_output=True, text=True, check=False
    )
    assert done.returncode == (_ENDS_BY_TIME if endless else 0), (example, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_of_the_document_is_answered(
    served: Served, host: SimulatedHost, example: str
) -> None:
    operation = ""
    if "$ID" in example:
        begun = served.post("/v1/pause", {"target": "pv1", "reason": "x"}).json
        operation = begun["id"]
        eventually(lambda: served.get(f"/v1/operations/{operation}").json["state"] == "ended", 10)
    said = run(example, served, host, operation)
    assert said
    if "text/plain" not in example and " -i " not in example:
        lines = said.splitlines() if " -N " in example else [said]
        assert all(isinstance(json.loads(line), dict) for line in lines)


def test_document_names_what_can_be_asked_only_with_examples_that_run() -> None:
    assert len(EXAMPLES) > 12
