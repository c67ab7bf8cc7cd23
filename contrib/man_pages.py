"""cede's manual pages, made of the commands' options, the policy's schema and the agent's interface.

    python3 contrib/man_pages.py FOLDER

writes cede.8, a page for each command, cede-agent.8, cede-guest.8 and cede-policy.5 to FOLDER. Their date is
SOURCE_DATE_EPOCH, in seconds since 1970, where that is set, else today. Sources: groff_man(7), man-pages(7),
https://reproducible-builds.org/specs/source-date-epoch/.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click
import yaml

from cede import __version__
from cede.cli.main import cli
from cede.util import schemas
from cede.util.paths import Paths

_CHECKOUT = Path(__file__).resolve().parents[1]
_CODE = re.compile(r"`([^`]+)`")
_STATUS = re.compile(r"(\d+) ([^;.]+)[;.]")
_EXIT = "Exit status: "
_VERBATIM = "\b"  # before a paragraph of click that keeps its lines
_CONTEXT = click.Context(cli, info_name="cede", **cli.context_settings)
_PATHS = Paths()
_FILES = {
    str(_PATHS.policy): "the policy, with the files below; see `cede-policy(5)`",
    f"{_PATHS.policy_folder}/*.yaml": "more files of the policy",
    str(_PATHS.journal): "the journal: what was done, what is unfinished, and the conditions",
    str(
        _PATHS.agent_socket
    ): "the socket of the agent, for root and the group cede; see `cede-agent(8)`",
    str(_PATHS.read_only_socket): "the agent's socket for anybody, which changes nothing",
}
_UNITS = {
    "cede.service": "the daemon and agent: `cede run`",
    "cede.socket, cede-ro.socket": "its sockets",
    "cede-boot.service": "`cede boot`, early in dom0's boot",
    "cede.timer, cede-apply.service": "a pass every five minutes, instead of the daemon",
}

Schema = Mapping[str, Any]


def pages() -> dict[str, str]:
    """Return the text of every page, by the name of its file."""
    names = cli.list_commands(_CONTEXT)
    commands = {name: _command(name) for name in names}
    every = {
        "cede.8": _main_page(commands),
        "cede-agent.8": _agent_page(),
        "cede-guest.8": _guest_page(),
        "cede-policy.5": _policy_page(),
    }
    return every | {
        f"cede-{name}.8": _command_page(name, command) for name, command in commands.items()
    }


def _command(name: str) -> click.Command:
    command = cli.get_command(_CONTEXT, name)
    if command is None:
        raise ValueError(f"there is no command {name}")
    return command


def _main_page(commands: Mapping[str, click.Command]) -> str:
    about, _ = _help(cli)
    lines = [
        *_head("cede", 8, _summary(cli)),
        ".SH SYNOPSIS", *_synopsis(cli, _CONTEXT),
        ".SH DESCRIPTION", *_prose(about),
        ".SH COMMANDS",
    ]  # fmt: skip
    for name, command in commands.items():
        lines += [".TP", f".BR cede\\-{name} (8)", _text(_summary(command))]
    lines += [".SH OPTIONS", *_options(cli, _CONTEXT), *_exit_status()]
    lines += [
        ".SH ENVIRONMENT",
        ".TP",
        ".B LIBVIRT_DEFAULT_URI",
        _text("libvirt's address, unless `--connect` is given."),
    ]
    lines += [".SH FILES", *_terms(_FILES), ".SH UNITS", *_terms(_UNITS)]
    pages = [
        *(f"cede-{name}(8)" for name in commands),
        "cede-agent(8)",
        "cede-policy(5)",
        "xl(1)",
        "virsh(1)",
    ]
    return _page(lines, pages)


def _command_page(name: str, command: click.Command) -> str:
    context = click.Context(command, info_name=name, parent=_CONTEXT)
    about, own_status = _help(command)
    lines = [
        *_head(f"cede-{name}", 8, _summary(command)),
        ".SH SYNOPSIS", *_synopsis(command, context),
        ".SH DESCRIPTION", *_prose(about),
        ".SH OPTIONS", *_options(command, context),
        *_exit_status(own_status),
    ]  # fmt: skip
    return _page(lines, ["cede(8)", "cede-agent(8)", "cede-policy(5)"])


def _agent_page() -> str:
    document = yaml.safe_load(schemas.content("agent.openapi.yaml"))
    sockets = {path: text for path, text in _FILES.items() if path.endswith(".sock")}
    lines = [
        *_head("cede-agent", 8, "Answer requests by HTTP on unix sockets"),
        ".SH DESCRIPTION",
        *_prose(
            "`cede run` is the agent: besides keeping the host in sync, it answers requests. Where it answers, the"
            " other commands ask it, which spares them their start; `--no-agent` has a command do the work itself."
            "\n\n"
            "An action becomes an operation, which goes on whoever goes away; a restart of the agent waits for its"
            " present action."
        ),
        ".SH SOCKETS", *_terms(sockets),
        ".PP",
        *_prose("The group cede is as good as root: who may give a disk controller to a guest can read and write the"
                " host's disks."),
        ".SH RESOURCES",
        *_prose(document["info"]["description"]),
    ]  # fmt: skip
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if "summary" in operation:
                lines += [
                    ".TP",
                    f".B {_code(f'{method.upper()} {path}')}",
                    _text(f"{operation['summary']}."),
                ]
    request = "curl --unix-socket /run/cede/cede.sock http://cede/v1/status"
    lines += [".SH EXAMPLES", *_verbatim(request), ".SH UNITS", *_terms(_UNITS)]
    lines += [
        ".PP",
        *_prose("Installing enables none of them: `systemctl enable --now cede.service` does."),
    ]
    return _page(lines, ["cede(8)", "cede-run(8)", "systemd.socket(5)", "curl(1)"])


def _guest_page() -> str:
    lines = [
        *_head("cede-guest", 8, "Answer dom0's cede from inside a Xen guest"),
        ".SH SYNOPSIS",
        ".B cede\\-guest",
        ".SH DESCRIPTION",
        *_prose(
            "Looks at the virtual slot that dom0's cede asks for, with one command and no other, and answers through"
            " xenstore: no network, no password. The policy in dom0 says `verify: {guest: xenstore}`."
            "\n\n"
            "`systemctl enable --now cede-guest.service` starts it in this guest and at each boot. It needs a shell,"
            " od, tr and xenstore-utils, and lspci for what only lspci tells."
        ),
    ]
    return _page(lines, ["cede-policy(5)", "xenstore-watch(1)"])


def _policy_page() -> str:
    schema = schemas.load("policy.schema.json")
    example = (
        (_CHECKOUT / "contrib/docs/policy.md")
        .read_text()
        .partition("```yaml\n")[2]
        .partition("```")[0]
    )
    lines = [
        *_head("cede-policy", 5, "Say which PCI device belongs to which Xen guest"),
        ".SH DESCRIPTION",
        *_prose(
            f"The policy is YAML, in `{_PATHS.policy}` and `{_PATHS.policy_folder}/*.yaml`, which are merged. They"
            " and the folders above them must belong to root, and nobody else may write them. `cede plan` reports all"
            f" mistakes at once, each with its line. A policy is {schema['description']}."
        ),
        ".SH KEYS",
        *_keys(schema, schema["$defs"]),
        ".SH EXAMPLES",
        *_verbatim(example),
        ".SH FILES", *_terms(dict(list(_FILES.items())[:2])),
    ]  # fmt: skip
    return _page(lines, ["cede(8)", "cede-plan(8)", "cede-import(8)", "lspci(8)"])


def _keys(schema: Schema, shared: Schema) -> Iterator[str]:
    """Yield each key of a mapping, and below it those of the mappings that it holds."""
    required = schema.get("required", ())
    for name, declared in schema.get("properties", {}).items():
        property_schema = _resolved(declared, shared)
        yield from (".TP", f".B {_code(name)}")
        parts = [property_schema.get("title", ""), property_schema.get("description", "")]
        text = ": ".join(part for part in parts if part)
        yield _text(f"{text[:1].upper()}{text[1:]}.")
        if name in required:
            yield "Required."
        if "default" in property_schema:
            default = property_schema["default"]
            yield _text(
                f"Default: `{str(default).lower() if isinstance(default, bool) else default}`."
            )
        if "$comment" in property_schema:
            yield _text(property_schema["$comment"])
        inner = list(_inner_keys(property_schema, shared))
        if inner:
            yield from (".RS", *inner, ".RE")


def _inner_keys(schema: Schema, shared: Schema) -> Iterator[str]:
    yield from _keys(schema, shared)
    for holder in ("items", "additionalProperties"):
        held = schema.get(holder)
        if isinstance(held, Mapping):
            yield from _keys(_resolved(held, shared), shared)


def _resolved(schema: Schema, shared: Schema) -> Schema:
    """Return a schema with what it refers to; its own words come first."""
    place = schema.get("$ref")
    return schema if place is None else {**shared[place.removeprefix("#/$defs/")], **schema}


def _help(command: click.Command) -> tuple[str, str]:
    """Return a command's help, and apart from it the paragraph about its exit status, or an empty text."""
    paragraphs = cleandoc(command.help or "").split("\n\n")
    status = [each for each in paragraphs if each.startswith(_EXIT.strip(": "))]
    return "\n\n".join(each for each in paragraphs if each not in status), "\n\n".join(status)


def _summary(command: click.Command) -> str:
    first = " ".join(cleandoc(command.help or "").split("\n\n")[0].split())
    return re.split(r"\.(?:\s|$)", first)[0]


def _exit_status(own: str = "") -> Iterator[str]:
    """Yield what every command ends with, and before it what one says of its own."""
    yield ".SH EXIT STATUS"
    if own:
        yield from _prose(own)
    _, general = _help(cli)
    yield from _terms(dict(_STATUS.findall(" ".join(general.split()).removeprefix(_EXIT))))


def _head(name: str, section: int, summary: str) -> Iterator[str]:
    epoch = float(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    date = time.strftime("%Y-%m-%d", time.gmtime(epoch))
    yield f'.TH {_code(name.upper())} {section} {date} "cede {__version__}" "System Administration"'
    yield from (".SH NAME", f"{_code(name)} \\- {_plain(summary.replace('`', ''))}")


def _synopsis(command: click.Command, context: click.Context) -> Iterator[str]:
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"\\fB{_code(context.command_path)}\\fR {_code(pieces)}"


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            names, text = record
            yield from (".TP", f".B {_code(names)}", _text(text))


def _terms(terms: Mapping[str, str]) -> Iterator[str]:
    for term, text in terms.items():
        yield from (".TP", f".B {_code(term)}", _text(f"{text[:1].upper()}{text[1:]}."))


def _prose(text: str) -> Iterator[str]:
    """Yield paragraphs; one that begins with click's mark keeps its lines."""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith(_VERBATIM):
            yield from _verbatim(paragraph.removeprefix(_VERBATIM).strip("\n"))
        else:
            yield _text(paragraph)


def _verbatim(text: str) -> Iterator[str]:
    yield from (".RS 4", ".nf")
    for line in text.rstrip("\n").split("\n"):
        yield _guarded(_code(line)) or "\\&"
    yield from (".fi", ".RE")


def _text(text: str) -> str:
    """Return a paragraph as one line, with what stands in backticks in bold."""
    parts = _CODE.split(" ".join(text.split()))
    marked = (f"\\fB{_code(part)}\\fR" if at % 2 else _plain(part) for at, part in enumerate(parts))
    return _guarded("".join(marked))


def _plain(text: str) -> str:
    return text.replace("\\", "\\e")


def _code(text: str) -> str:
    """Escape what is to be copied: hyphens, quotes and carets stay those of ASCII."""
    for sign, escape in (
        ("\\", "\\e"),
        ("-", "\\-"),
        ("'", "\\(aq"),
        ("^", "\\(ha"),
        ("~", "\\(ti"),
        ("`", "\\(ga"),
    ):
        text = text.replace(sign, escape)
    return text


def _guarded(line: str) -> str:
    """Keep a line from being a request."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _page(lines: list[str], see_also: list[str]) -> str:
    links = [re.sub(r"(.+)(\(\d\))", r".BR \1 \2", _code(name)) for name in see_also]
    return (
        "\n".join([*lines, ".SH SEE ALSO", *(f"{link}," for link in links[:-1]), links[-1]]) + "\n"
    )


def main() -> None:
    """Write the pages to the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
