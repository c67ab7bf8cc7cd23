"""The `cede` command. Imports little, since each command waits for that."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

import click

from cede import __version__
from cede.util.well_known import DEFAULT_URI

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from cede.adapters.runtime import Runtime

# by name, in the order of `cede --help`: the module below cede.cli that has it
_MODULES = {
    "plan": "plan_command",
    "apply": "apply_command",
    "devices": "devices_command",
    "doctor": "doctor_command",
    "import": "import_command",
    "report": "report_command",
    "status": "status_command",
    "verify": "verify_command",
    "attach": "device_commands",
    "detach": "device_commands",
    "release": "device_commands",
    "boot": "boot_command",
    "pause": "maintenance_commands",
    "resume": "maintenance_commands",
    "drain": "maintenance_commands",
    "history": "history_command",
    "run": "run_command",
}


_COMPLETE = "_CEDE_COMPLETE"  # the variable of click's completion
_ONLY_HERE = f"{__name__}.only_here"


def _only_here(context: click.Context, option: click.Parameter) -> None:
    """Have this process do the work, since the agent can't do what the option says."""
    context.meta[_ONLY_HERE] = said = option.opts[-1]
    if context.obj is not None and context.parent is not None:
        from dataclasses import replace

        context.obj = replace(context.obj, only_here=said)


def _log_to_stderr(context: click.Context, option: click.Parameter, value: bool) -> None:
    """Log for as long as the command runs."""
    if value and not context.resilient_parsing:
        import logging

        from cede.util.log import logging_to_stderr

        level = logging.DEBUG if option.name == "debug" else logging.INFO
        context.with_resource(logging_to_stderr(level))
        _only_here(context, option)


# on every command, so that they may stand before its name as well as after it
_LOGGING = (
    click.Option(
        ["-v", "--verbose"], is_flag=True, expose_value=False, callback=_log_to_stderr,
        help="Tell on the standard error what is seen, and what is tried again.",
    ),
    click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=_log_to_stderr,
        help="Tell as well of each call to libvirt, Xen, xenstore and programs, and how long it took.",
    ),
)  # fmt: skip


def _read_tree(context: click.Context, option: click.Parameter, tree: str | None) -> None:
    """Hand the command the host in the folder `tree` instead of this one."""
    if tree is not None and not context.resilient_parsing:
        from dataclasses import replace
        from pathlib import Path

        from cede.adapters.recorded.composition import recorded_runtime, untold
        from cede.commands.screen import echo_lines, show_as

        _only_here(context, option)
        host = context.with_resource(recorded_runtime(context.obj.runtime(), Path(tree)))
        context.obj = replace(context.obj, host=host)
        context.find_root().with_resource(show_as(str(host.paths.root), tree))
        echo_lines([f"cede: {tree} does not tell {what}" for what in untold(host)], err=True)


# commands that can only read have it
_ROOT = click.Option(
    ["--root", "tree"], metavar="DIR", expose_value=False, callback=_read_tree,
    type=click.Path(file_okay=False),
    help="Read the host whose files are below DIR (sys, proc, etc, var/log, as `cede report` or sos collect them),"
    " and nothing of this one.",
)  # fmt: skip
_READING = frozenset({"plan", "devices", "doctor", "import", "boot", "history", "status"})


class _Commands(click.Group):
    """The commands; each is imported when it is used, so that none waits for what the others import."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_MODULES)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return names alone: what a command does can't be told without importing it."""
        from click.shell_completion import CompletionItem

        names = (name for name in _MODULES if name.startswith(incomplete))
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name) for name in names), *options]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _MODULES:
            return None
        module = import_module(f"cede.cli.{_MODULES[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        added = (*_LOGGING, _ROOT) if cmd_name in _READING else _LOGGING
        command.params += [option for option in added if option not in command.params]
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; raises UnexpectedError for what nobody expected, lest a traceback shows a guest's words."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except (BrokenPipeError, EOFError):
            raise  # click's own to handle
        except Exception as fault:
            from cede.cli.ending import as_error

            error = as_error(fault, f"`cede {ctx.invoked_subcommand}`")
            if error is fault:
                raise
            raise error from fault


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,  # click's versions differ in what they do without a command
)
@click.version_option(__version__, prog_name="cede")
@click.option(
    "-c", "--connect", "uri", metavar="URI",
    default=lambda: os.environ.get("LIBVIRT_DEFAULT_URI") or DEFAULT_URI,
    help=f"libvirt's Xen driver, as for virsh. [default: $LIBVIRT_DEFAULT_URI or {DEFAULT_URI}]",
)  # fmt: skip
@click.option(
    "--agent/--no-agent", default=None,
    help="Ask the agent (`cede run`), or do the work in this process. [default: ask the agent if it answers]",
)  # fmt: skip
@click.pass_context
def cli(context: click.Context, uri: str, agent: bool | None) -> None:
    """Give PCI devices to Xen guests through libvirt, verify that they arrived, and take them back.

    Exit status: 0 done or in sync; 1 failed; 2 the command line or a file is wrong; 3 refused as unsafe; 4 out of
    sync; 75 try again later.
    """
    if context.invoked_subcommand is None:
        from cede.commands.exit_status import Exit
        from cede.commands.screen import echo_lines

        echo_lines(context.get_help().split("\n"), err=True)
        context.exit(Exit.USAGE)
    from cede.cli.session import Caller

    only_here = context.meta.get(_ONLY_HERE, "")
    context.obj = Caller(uri=uri, host=context.obj, agent=agent, only_here=only_here)


cli.params += _LOGGING


def main(argv: Sequence[str] | None = None, runtime: Runtime | None = None) -> NoReturn:
    """Run the command line, by default that of this process on this host, and end the process with its exit status.

    An error is told on standard error; where the command line has --json, as JSON on standard output too.
    """
    if _COMPLETE in os.environ:
        import cede.cli.completion  # noqa: F401 - how bash completes
    try:
        code = cli.main(argv, prog_name="cede", standalone_mode=False, obj=runtime)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except Exception as error:  # noqa: BLE001 - what is neither click's nor cede's is raised there
        from cede.cli.ending import ended_in

        code = ended_in(error, as_json="--json" in (sys.argv[1:] if argv is None else argv))
    sys.exit(int(code or 0))
