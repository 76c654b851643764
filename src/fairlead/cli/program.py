# SPDX-License-Identifier: Apache-2.0
"""The `fairlead` command: subcommands, loaded when they are called, and what each way to end exits with."""

from __future__ import annotations

import errno
import sys
from importlib import import_module
from typing import Any

import click

from fairlead.cli import output
from fairlead.cli.api import RefusedError, UnreachableError
from fairlead.errors import ConfigError, PortInUse, StoreBusy, StoreError, StoreFull
from fairlead.version import __version__

COMMANDS = {
    "serve": "run the relay",
    "send": "publish events",
    "listen": "receive events and check their order",
    "status": "how every subscription is doing",
    "events": "look at the log",
    "subscriptions": "who gets what: add, list, show, set, remove, pause, resume, secret",
    "replay": "deliver again from an earlier place",
    "lanes": "held and parked resources: list, retry, skip, release",
    "keys": "API keys: add, list, revoke",
    "store": "the store file: check, compact, restored",
    "outbox": "what waits at a publisher, an OpenStack service say",
    "config": "the configuration: show, check",
    "doctor": "what is wrong, and what to do",
    "bench": "measure this machine",
}
"""Every subcommand with its line in the help, in the order of a user's day."""

DONE, REFUSED, USAGE, UNREACHABLE, LOGIN, CONFIGURATION, STORE, PORT_IN_USE = range(8)
INTERRUPTED = 130
_OUTPUT_FAILS = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
EXITS = {
    DONE: "done",
    REFUSED: "refused, or a check failed",
    USAGE: "usage",
    UNREACHABLE: "the relay is not reachable",
    LOGIN: "login or grant",
    CONFIGURATION: "configuration",
    STORE: "store: corrupt, newer, locked, disk or fsync",
    PORT_IN_USE: "the port is in use",
    INTERRUPTED: "interrupted",
}


class _UnreadError(Exception):
    """Whoever read the results has had enough; an OSError would make click end the process with 1."""


class _Program(click.Group):
    """A group that imports a subcommand's module when it is asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _UnreadError from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"fairlead.cli.{cmd_name}_command")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from fairlead.core.durations import nearest

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            guess = nearest(args[0], COMMANDS)
            hint = f" Did you mean {guess}?" if guess else ""
            raise click.UsageError(f"no such command: {args[0]}.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="fairlead")
@click.option("--url", metavar="URL", help="the relay (FAIRLEAD_URL; http://127.0.0.1:3247)")
@click.option("--key-file", metavar="FILE", help="a file that holds an API key (or FAIRLEAD_API_KEY)")
@click.pass_context
def program(ctx: click.Context, url: str | None, key_file: str | None) -> None:
    """Ordered, durable, authenticated notifications between the components of a platform.

    \b
    Begin with:
      fairlead serve                        the relay, here
      fairlead listen --subscribe demo      receive, in a second terminal
      fairlead send --source /demo --type hello --subject world

    When something is wrong: fairlead doctor. Results go to standard output, everything else to standard
    error; with --json for programs to read.
    """
    ctx.obj = {"url": url, "key_file": key_file}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the code that the interface names (section 10)."""
    output.open_closed()
    code = _run(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stdout.flush()
    except OSError as error:
        code = _not_written(error) or code
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        result: Any = program.main(arguments, prog_name="fairlead", standalone_mode=False)
        return result if isinstance(result, int) else DONE
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        output.note(error.format_message())
        return USAGE
    except click.UsageError as error:
        output.wrong_usage(error)
        return USAGE
    except click.ClickException as error:
        output.note(f"fairlead: {error.format_message()}")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except _UnreadError:
        output.give_up(sys.stdout)
        return DONE
    except OSError as error:
        if error.errno not in _OUTPUT_FAILS or error.filename is not None:
            raise
        return _not_written(error)
    except UnicodeEncodeError as error:
        return _not_encoded(error)
    except UnreachableError as error:
        output.note(f"fairlead: {error}; {error.remedy}")
        return UNREACHABLE
    except RefusedError as error:
        output.problem(error)
        return LOGIN if error.status in (401, 403) else REFUSED
    except ConfigError as error:
        for line in (str(error), *error.hints):
            output.note(line)
        return CONFIGURATION
    except (StoreError, StoreFull, StoreBusy) as error:  # the latter two where a start needs to write
        output.note(f"fairlead: {error}")
        return STORE
    except PortInUse as error:
        output.note(f"fairlead: {error}")
        return PORT_IN_USE


def _not_encoded(error: UnicodeEncodeError) -> int:
    """Of what was given, UTF-8 takes all but bytes that were no text; of what is shown, an output may not."""
    if error.encoding.lower().replace("-", "") == "utf8":
        output.note(f"fairlead: {ascii(error.object)[:80]} is not text in UTF-8")
        return USAGE
    what = f"{ascii(error.object[error.start : error.end])[:80]} in its encoding, {error.encoding}"
    output.note(f"fairlead: standard output cannot show {what}; set PYTHONIOENCODING=utf-8")
    return REFUSED


def _not_written(error: OSError) -> int:
    """What it means that a result could not be written."""
    output.give_up(sys.stdout)
    if isinstance(error, BrokenPipeError):  # whoever read it has had enough
        return DONE
    output.note(f"fairlead: standard output: {error.strerror or error}")
    return REFUSED
