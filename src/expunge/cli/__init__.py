"""The command line: arguments in, one library call out, results on the screen.

Heavy imports wait until a command runs, so that help and mistakes answer at once.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Annotated

import typer

from expunge.cli.bank import build as bank_build
from expunge.cli.bank import purge as bank_purge
from expunge.cli.bank import status as bank_status
from expunge.cli.cache import list_ as cache_list
from expunge.cli.cache import purge_ as cache_purge
from expunge.cli.cleanse import cleanse
from expunge.cli.forget import audit, unlearn
from expunge.cli.models import export, import_, train
from expunge.cli.overview import demo, list_
from expunge.cli.recommend import recommend
from expunge.cli.requests import add_requests
from expunge.cli.screen import warnings_as_lines
from expunge.cli.serve import add_serve
from expunge.cli.sparsity import diagnose as diagnose_sparsity
from expunge.cli.sparsity import prune
from expunge.cli.streams import check_streams, let_go, output_lost, tolerate_signs
from expunge.cli.study import list_ as study_list
from expunge.cli.study import power as study_power
from expunge.cli.study import publish as study_publish
from expunge.cli.study import records as study_records
from expunge.cli.study import report as study_report
from expunge.cli.study import results as study_results
from expunge.cli.study import run as study_run
from expunge.cli.study import status as study_status
from expunge.errors import ExpungeError, told
from expunge.names.text import clean
from expunge.version import VERSION

SETTINGS = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="expunge",
    help="Make a trained PyTorch model forget part of its training data, and measure whether it did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings=SETTINGS,
)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Show the version, or go on to the command."""
    if version:
        typer.echo(f"expunge {VERSION}")
        raise typer.Exit


for _name, _command, _example in (
    ("demo", demo, "--out expunge-demo"),
    (
        "train",
        train,
        "--data digits --model cnn --epochs 20 --lr 0.05 --batch-size 128 --out runs/original",
    ),
    (
        "import",
        import_,
        "--model mynet:build --weights net.safetensors --data photos@64 --recipe recipe.yaml"
        " --mean 0.49,0.48,0.45 --std 0.25,0.24,0.26 --out runs/imported",
    ),
    (
        "prune",
        prune,
        "--data digits --model cnn --epochs 20 --lr 0.05 --batch-size 128 --pruner omp"
        " --sparsity 0.95 --out runs/sparse",
    ),
    ("recommend", recommend, "runs/original --forget class:3 --budget 60"),
    (
        "unlearn",
        unlearn,
        "runs/original --forget class:3 --method neggrad_plus --set alpha=0.9 --with-reference"
        " --out runs/without-3",
    ),
    (
        "cleanse",
        cleanse,
        "runs/backdoored --method finetune --known-fraction 0.5 --with-reference --out runs/clean",
    ),
    (
        "audit",
        audit,
        "runs/without-3 --original runs/original --retrained runs/without-3-retrained",
    ),
    ("export", export, "runs/without-3 --to net.pt --key model"),
    ("list", list_, "methods neggrad_plus"),
):
    app.command(_name, epilog=f"Example: expunge {_name} {_example}")(_command)

diagnose = typer.Typer(
    help="Look into why: what theory says, and what is measured.",
    no_args_is_help=True,
    context_settings=SETTINGS,
)
diagnose.command(
    "sparsity",
    epilog="Example: expunge diagnose sparsity --data digits --model cnn --epochs 20 --lr 0.05"
    " --batch-size 128 --forget random:0.1 --set-method lr=0.005 --out runs/theory",
)(diagnose_sparsity)
app.add_typer(diagnose, name="diagnose")

study = typer.Typer(
    help="Compare methods over seeds and settings, as a file describes it.",
    no_args_is_help=True,
    context_settings=SETTINGS,
)
_SMOKE = "smoke --out runs/smoke"
study.command("list", epilog="Example: expunge study list")(study_list)
study.command("run", epilog=f"Example: expunge study run {_SMOKE} --workers 2")(study_run)
study.command("status", epilog=f"Example: expunge study status {_SMOKE}")(study_status)
study.command("results", epilog=f"Example: expunge study results {_SMOKE}")(study_results)
study.command("power", epilog=f"Example: expunge study power {_SMOKE} --difference 2")(study_power)
study.command("report", epilog="Example: expunge study report runs/smoke")(study_report)
study.command("records", epilog="Example: expunge study records runs/smoke --out kept")(
    study_records
)
study.command(
    "publish", epilog="Example: expunge study publish runs/smoke --to mlflow:http://localhost:5000"
)(study_publish)
app.add_typer(study, name="study")

bank = typer.Typer(
    help="Models trained as an original was, each on a half of its samples, which audits compare with.",
    no_args_is_help=True,
    context_settings=SETTINGS,
)
bank.command("build", epilog="Example: expunge bank build runs/original --models 16 --workers 2")(
    bank_build
)
bank.command("status", epilog="Example: expunge bank status runs/original")(bank_status)
bank.command("purge", epilog="Example: expunge bank purge runs/without-3 --renew")(bank_purge)
app.add_typer(bank, name="bank")

cache = typer.Typer(
    help="See what is kept to save time (decoded images, digests of files), and remove it.",
    no_args_is_help=True,
    context_settings=SETTINGS,
)
cache.command("list", epilog="Example: expunge cache list")(cache_list)
cache.command("purge", epilog="Example: expunge cache purge --older-than 30")(cache_purge)
app.add_typer(cache, name="cache")

add_requests(app, SETTINGS)
add_serve(app, SETTINGS)

INTERRUPTED = 130


def main() -> None:
    """Run a command; a mistake costs one line and exit code 2."""
    asked: list[int] = []
    try:
        tolerate_signs()
        with _ended_by_signals() as asked, warnings_as_lines():
            code = _run(asked)
    except KeyboardInterrupt:  # just before the command itself, or just after
        code = _interrupted(asked)
    _leave_processes()
    sys.exit(code)


def _run(asked: list[int]) -> int:
    """The exit code of the command that was typed. asked: the signal that ended it, if one did."""
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        check_streams()
        outcome = app(standalone_mode=False)
        if outcome == INTERRUPTED:  # typer turns Ctrl-C into this
            raise KeyboardInterrupt
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except ExpungeError as error:
        return _complain(str(error), 2)
    except typer.TyperException as error:
        said = error.format_message()
        end = "" if said.endswith((".", "?")) else "."
        return _complain(f"{said}{end} See `expunge --help`.", 2)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted(asked)
    except SystemExit as stop:  # nothing of ours says that
        if isinstance(stop.__context__, BrokenPipeError):  # typer turns it into this
            return _unread()
        return _complain(f"code that was called has left the program (exit code {stop.code})", 1)
    except BrokenPipeError:
        return _unread()
    except OSError as error:
        shown = not error.filename and (output_lost() or _was_shown(error))
        where = "standard output" if shown else error.filename or "the system"
        return _complain(f"{where}: {error.strerror or error}", 2)


def _interrupted(asked: list[int]) -> int:
    """Say so; the exit code of what was ended by Ctrl-C, or by the signal in `asked`."""
    code = 128 + asked[0] if asked else INTERRUPTED
    return _complain("interrupted; nothing was left half-written", code)


def _was_shown(error: OSError) -> bool:
    """Whether an error came up where results are shown: rich and typer write nothing else."""
    *_, (last, _) = traceback.walk_tb(error.__traceback__)
    return str(last.f_globals.get("__name__")).partition(".")[0] in ("rich", "typer")


def _unread() -> int:
    """The exit code where nobody reads on, as after `| head`."""
    let_go()
    return 128 + signal.SIGPIPE


@contextmanager
def _ended_by_signals() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does; gives a list that then holds the signal.

    A signal that is ignored, as SIGHUP is under nohup, stays so.
    """
    asked: list[int] = []
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    known = [getattr(signal, name) for name in names]
    numbers = [number for number in known if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []

    def end(number: int, _: object) -> None:
        for other in numbers:  # what has begun to end is not interrupted again
            signal.signal(other, signal.SIG_IGN)
        asked.append(number)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, end)
    try:
        yield asked
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _complain(message: str, code: int) -> int:
    """One line on standard error, as far as that takes it."""
    with suppress(OSError):
        print(f"error: {clean(told(message))}", file=sys.stderr, flush=True)
    return code


def _leave_processes() -> None:
    """Under torchrun, end the process group that accelerate made."""
    if "torch" in sys.modules:
        import torch.distributed as distributed

        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


if __name__ == "__main__":
    main()
