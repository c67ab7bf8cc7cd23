"""`contrib/bench`: the command line of the benchmark."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from xenlab.errors import LabError
from xenlab.lab import Lab
from xenlab.machine import DEFAULT_RELEASE, RELEASES

from . import here, on_lab
from .figures import compare_with_targets, figures
from .job import RunnerFailedError
from .planning import PlanningFailedError, plan_lines
from .tables import Measurement, NoSectionError, readme_section, screen, with_section

_CHECKOUT = Path(__file__).parents[2]
_ROUNDS = 5
_FAILED, _USAGE, _INTERRUPTED = 1, 2, 130
_DESCRIPTION = """\
Measures cede beside virsh and xl on one host, in rounds in which all take turns: medians, spread, peak memory, calls of
libvirt, and the targets. The host is the lab, from its pristine snapshot, or with --here the one that this runs on."""
_EPILOG = """\
examples:
  contrib/bench                                             on the lab; builds it the first time
  contrib/bench --readme                                    the same, and writes the README's section
  contrib/bench --here --device 0000:01:00.0 --domain ace2x1    on this host; asks before it begins

exit status: 0 all was measured, whether or not the targets are met; 1 something failed; 2 wrong command line, or a host
that can't be measured; 130 interrupted, and all is given back."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show what came of it, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.readme and (options.here or options.only):
        parser.error("--readme is for all of it, on the lab")
    if not options.here and (options.device or options.domain):
        parser.error("--device and --domain go with --here")
    # also where the shell has it ignored; what was begun is undone whatever ends this
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        measured, failed = _here(options) if options.here else _on_lab(options)
    except here.NotHereError as error:
        print(f"bench: {error}", file=sys.stderr)
        return _USAGE
    except LabError as error:
        print(error.reported(), file=sys.stderr)
        return _FAILED
    except RunnerFailedError as error:
        print(f"bench: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        _say("interrupted")
        return _INTERRUPTED
    if options.as_json:
        print(json.dumps(measured.as_json(), indent=2))
    else:
        print(screen(measured), end="")
    if options.readme and not _written(measured):
        return _FAILED
    return _FAILED if failed else 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="contrib/bench", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw
    )
    parser.add_argument("--rounds", type=_positive, default=_ROUNDS, help="how many (default: 5)")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    parser.add_argument(
        "--readme", action="store_true", help="write the section Benchmarks of the README"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="COURSE",
        help="only those: verified, plain, many, version, breakdown, behind, planning; can be given again",
    )  # fmt: skip
    parser.add_argument(
        "--dom0", choices=RELEASES, default=DEFAULT_RELEASE, help="the lab's Debian"
    )
    own = parser.add_argument_group("on this host")
    own.add_argument("--here", action="store_true", help="measure this host, as root")
    own.add_argument(
        "--device", action="append", default=[], metavar="ADDRESS",
        help="an idle PCI device; several are given at once, too",
    )  # fmt: skip
    own.add_argument(
        "--domain", action="append", default=[], metavar="NAME", help="a running domain for them"
    )
    own.add_argument(
        "--without-guest",
        action="store_true",
        help="ask no guest: there is no shell on its console",
    )
    own.add_argument("--yes", action="store_true", help="don't ask before it begins")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one")
    return number


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _on_lab(options: argparse.Namespace) -> tuple[Measurement, bool]:
    lines: list[dict[str, Any]] = []
    load = os.getloadavg()[0]
    if not options.only or "planning" in options.only:
        _say("planning natively")
        try:
            lines += plan_lines(_CHECKOUT, options.rounds)
        except PlanningFailedError as error:  # a machine without cede's libraries measures the rest
            lines += _heard([{"failed": "planning natively", "status": 1, "said": str(error)}])
    if options.only != ["planning"]:
        lab = Lab(release=options.dom0, name="bench", dies_with_caller=True)
        bench = on_lab.LabBench(lab)
        try:
            bench.prepare()
            lines += _heard(bench.measure(options.rounds, options.only, _say))
        finally:
            lab.down()
    where = on_lab.where(options.dom0, options.rounds, (load, os.getloadavg()[0]))
    return measurement(lines, where, options.rounds)


def _here(options: argparse.Namespace) -> tuple[Measurement, bool]:
    here.require_host()
    given = here.given(options.device, options.domain)
    load = os.getloadavg()[0]
    with here.setting(given, asks_guest=not options.without_guest) as setting:
        here.refuse_unfit(setting)
        if not options.yes and not confirmed(here.question(setting, options.rounds), input):
            raise here.NotHereError("nothing was done")
        lines = _heard(here.measure(setting, options.rounds, options.only, _say))
    where = here.where(options.rounds, (load, os.getloadavg()[0]))
    return measurement(lines, where, options.rounds)


def confirmed(question: str, ask: Callable[[str], str]) -> bool:
    """Whether the administrator types yes; the end of the input is no."""
    try:
        return ask(question).strip() == "yes"
    except EOFError:
        return False


def _heard(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """All lines; what fails is said as it comes."""
    heard = []
    for line in lines:
        if "failed" in line:
            _say(f"failed with {line['status']}: {line['failed']}\n{line['said']}")
        heard.append(line)
    return heard


def measurement(
    lines: Sequence[dict[str, Any]], where: str, rounds: int
) -> tuple[Measurement, bool]:
    """Make one of all lines, and tell whether anything failed."""
    found = figures(lines)
    failures = [line["failed"] for line in lines if "failed" in line]
    peaks = [line["agent_peak_kilobytes"] for line in lines if "agent_peak_kilobytes" in line]
    notes = [line["note"] for line in lines if "note" in line]
    notes += [f"failed {failures.count(what)} times: {what}" for what in dict.fromkeys(failures)]
    measured = Measurement(
        where=where,
        rounds=rounds,
        figures=found,
        judged=compare_with_targets(found),
        agent_peak_kilobytes=max(peaks, default=None),
        notes=tuple(notes),
    )
    return measured, bool(failures)


def _written(measured: Measurement) -> bool:
    readme = _CHECKOUT / "README.md"
    try:
        text = with_section(readme.read_text(encoding="utf-8"), readme_section(measured))
    except NoSectionError as error:
        _say(str(error))
        return False
    readme.write_text(text, encoding="utf-8")
    return True
