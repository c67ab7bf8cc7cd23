"""Hands a job to `runner` on some host, and reads what comes of it."""

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .courses import Course, as_json
from .runner import INTERRUPTED

_ENDS_WITHIN_SECONDS = 900  # a step that hangs, and what undoes it
RUNNER = ("python3", "-m", "xenbench.runner")


class RunnerFailedError(Exception):
    """The runner ended before its job was done."""


def lines_of(
    argv: Sequence[str],
    courses: Sequence[Course],
    *,
    rounds: int,
    folder: str,
    agent: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """Run the job by `argv`; what is not progress comes line by line, as `runner` prints it.

    The runner is not interrupted with this process: SIGINT is handed on to it once, and what it undoes is waited for.
    Raises KeyboardInterrupt afterwards, and RunnerFailedError if the runner fails.
    """
    job = {
        "courses": [as_json(course) for course in courses],
        "rounds": rounds,
        "folder": folder,
        "agent": dict(agent),
    }
    interrupted = ended = False
    with subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        process_group=0,
    ) as process:
        assert process.stdin is not None  # noqa: S101 - as it was asked for
        assert process.stdout is not None  # noqa: S101 - as it was asked for
        try:
            process.stdin.write(json.dumps(job))
            process.stdin.close()
            while True:
                try:
                    line = process.stdout.readline()
                except KeyboardInterrupt:
                    interrupted = True
                    say("ending: what was begun is undone")
                    process.terminate()
                    continue
                ended = not line
                if ended:
                    break
                read = json.loads(line)
                if "progress" in read:
                    say(read["progress"])
                else:
                    yield read
        finally:
            if not ended:
                process.terminate()
            process.wait(timeout=_ENDS_WITHIN_SECONDS)
    if interrupted or process.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode not in {0, 1}:
        raise RunnerFailedError(f"the runner ended with {process.returncode}")
