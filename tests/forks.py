"""Commands as processes of their own that begin at once.

A server imports everything, once; each command is a fork of it, started by a small program that looks
like the command to whoever starts it: it has its folder, environment, streams, signals and exit code.
What is not shown so is how Python starts, and what is imported when: tests of that start their own.

    python forks.py SOCKET                    the server, until its standard input ends
    python forks.py SOCKET STRICT [word ...]  a command; STRICT: 1 where warnings are errors
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys


def be_command(path: str, strict: str, *arguments: str) -> None:
    """Have a fork do it; end as that does."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(path)
    asked = {
        "arguments": arguments,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "strict": strict == "1",
        "leads": os.getpid()
        == os.getpgrp(),  # what it starts is of its group, and signalled with it
    }
    content = json.dumps(asked).encode()
    socket.send_fds(server, [len(content).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(content)
    answers = server.makefile()
    process = int(answers.readline())
    pass_on = os.killpg if asked["leads"] else os.kill
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, frame: pass_on(process, number))
    code = int(answers.readline() or 1)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def serve(path: str) -> None:
    """Import everything, then fork for whoever asks."""
    import select
    import shutil

    import kills

    kills.warm_up()
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [place for place in sys.path if place and os.path.abspath(place) != here]
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # who is interrupted at the keyboard ends the tests
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    try:
        while True:
            ready, _, _ = select.select([listener, sys.stdin], [], [])
            if sys.stdin in ready:
                break
            asker, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _keep(asker)
            asker.close()
    finally:
        shutil.rmtree(os.path.dirname(path), ignore_errors=True)


def _keep(asker: socket.socket) -> None:
    """Fork once more, tell what becomes of it, and end it with whoever asked."""
    import select

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(asker, 8, 3)
    with asker.makefile("rb") as stream:
        asked = json.loads(stream.read(int.from_bytes(size, "big")))
    process = os.fork()
    if process == 0:
        asker.close()
        _run(asked, streams)
    for stream_ in streams:
        os.close(stream_)
    asker.sendall(f"{process}\n".encode())
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            break
        if select.select([asker], [], [], 0.02)[0]:
            os.kill(process, signal.SIGKILL)
            os._exit(1)
    asker.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _open_streams() -> None:
    """As Python does at its start."""
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    for name, number, errors in (("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        lines = number == 2 or os.isatty(number)
        stream = os.fdopen(number, "w", 1 if lines else -1, errors=errors, closefd=False)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run(asked: dict[str, object], streams: list[int]) -> None:
    """The command itself, as `python -m expunge` has it."""
    import atexit
    import threading
    import traceback
    import warnings

    code = 1
    try:
        if asked["leads"]:
            os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        _open_streams()
        os.chdir(str(asked["folder"]))
        os.environ.clear()
        os.environ.update(asked["environment"])  # type: ignore[call-overload]
        sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
        places = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
        sys.path[:0] = [place for place in places if place not in sys.path]
        if not asked["strict"]:
            sys.warnoptions.clear()
            warnings.resetwarnings()
            warnings.simplefilter("ignore")
        sys.argv = ["expunge", *asked["arguments"]]  # type: ignore[misc]
        from expunge import cli

        if os.environ.pop("FORKED_WORKERS", ""):
            from expunge.training import processes

            workers = processes.multiprocessing.get_context("fork")
            processes.multiprocessing.get_context = lambda _: workers
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(str(stop.code or 0))
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        be_command(*sys.argv[1:])
