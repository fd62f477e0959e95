"""`serve`: let others bring requests and decide them by HTTP, and the tokens with which they may."""

from __future__ import annotations

import socket
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from expunge.cli.ledgers import LedgerDir, opened
from expunge.cli.screen import consoles
from expunge.errors import ConfigError, RequestError

MOST_AT_ONCE = 200
"""Connections; more are told to come again."""
TokenName = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is.", show_default=False)]


def serve(
    context: typer.Context,
    ledger: LedgerDir = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="0: one that is free.")
    ] = 8321,
    anywhere: Annotated[
        bool, typer.Option("--anywhere", help="Listen at a host that is not this machine alone.")
    ] = False,
) -> None:
    """Receive requests by HTTP, and show in a browser what is due; needs the extra `serve`.

    Whoever calls has a token of `expunge serve token add`. No model is read or made by the server.
    """
    context.obj = ledger
    if context.invoked_subcommand is not None:
        return
    if not anywhere and not is_loopback(host):
        raise ConfigError(
            f"{host} can be reached from other machines, and tokens would travel in the clear: put a "
            "server with TLS in front of 127.0.0.1, or insist with --anywhere"
        )
    try:
        import fastapi  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ConfigError(
            "serve needs FastAPI and uvicorn; install them with pip install 'expunge[serve]'"
        ) from error
    from expunge.requests.server.app import make_app

    screen, _ = consoles()
    found = opened(ledger)
    with listening(host, port) as listener:
        at = listener.getsockname()
        shown = f"[{at[0]}]" if ":" in at[0] else at[0]
        screen.print(f"{found.folder} at http://{shown}:{at[1]}; Ctrl-C ends it", soft_wrap=True)
        settings = uvicorn.Config(
            make_app(found),
            access_log=False,
            log_level="warning",
            server_header=False,
            limit_concurrency=MOST_AT_ONCE,
        )
        with suppress(KeyboardInterrupt):  # what ended it, told once more when all is answered
            uvicorn.Server(settings).run(sockets=[listener])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address. Of names `localhost` alone is known to be one."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises RequestError where the address is taken, or is none of ours."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise RequestError(
            f"cannot listen at {host}, port {port} ({reason}); give another with --host or --port"
        ) from error


def token_add(
    context: typer.Context,
    name: TokenName,
    role: Annotated[
        str,
        typer.Option("--role", help="`submitter`, `approver` or `reader`.", show_default=False),
    ],
    ledger: LedgerDir = None,
) -> None:
    """Make a token, which is shown this once: hand it on in a safe way. Its name is never given again.

    A submitter brings requests and sees its own; an approver sees all and decides; a reader sees all,
    with events and certificates.
    """
    from expunge.requests.server.tokens import add_token

    screen, _ = consoles()
    told = add_token(opened(_named(context, ledger)), name, role)
    screen.print(told, soft_wrap=True, markup=False, highlight=False)


def token_list(context: typer.Context, ledger: LedgerDir = None) -> None:
    """Whose tokens there are, with what role and since when."""
    from expunge.requests.server.tokens import token_rows

    screen, _ = consoles()
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("name", "role", "since", "revoked"):
        table.add_column(heading)
    for row in token_rows(opened(_named(context, ledger))):
        table.add_row(*row)
    screen.print(table)


def token_revoke(context: typer.Context, name: TokenName, ledger: LedgerDir = None) -> None:
    """Refuse a token from now on, also by a server that runs."""
    from expunge.requests.server.tokens import revoke_token

    screen, _ = consoles()
    revoke_token(opened(_named(context, ledger)), name)
    screen.print(f"the token {name} is revoked")


def _named(context: typer.Context, ledger: Path | None) -> Path | None:
    """The ledger that was named, before `token` or after it."""
    return ledger if ledger is not None else context.obj
