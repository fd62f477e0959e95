"""The command line: arguments in, one library call out, results on the screen.

`table` has all commands by name; a command's own module is imported when the command is asked for, and
heavy libraries when it runs, so that help and mistakes answer at once.
"""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer

from expunge.cli.screen import warnings_as_lines
from expunge.cli.streams import check_streams, let_go, output_lost, tolerate_signs
from expunge.cli.tree import made
from expunge.errors import ExpungeError, told
from expunge.names.text import clean

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
        outcome = made("")(standalone_mode=False)
        if outcome == INTERRUPTED:  # typer turns Ctrl-C into this
            raise KeyboardInterrupt
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except ExpungeError as error:
        return _complain(str(error), 2)
    except typer.TyperException as error:
        said = error.format_message()
        if not said:  # of a group alone, whose help has been shown
            return 0
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
