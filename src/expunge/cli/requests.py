"""The commands of deletion requests: `ledger`, `request`, `batch`, `gate`, `release` and
`certify`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import typer

import expunge.cli.batch as batch
import expunge.cli.certify as certify
import expunge.cli.gate as gate
import expunge.cli.ledgers as ledgers
import expunge.cli.release as release
import expunge.cli.request as request

GROUPS: Mapping[str, tuple[str, tuple[tuple[str, Callable[..., Any], str], ...]]] = {
    "ledger": (
        "Where deletion requests are kept, with all that became of them.",
        (
            ("init", ledgers.init, "runs/original"),
            ("status", ledgers.status, ""),
            ("verify", ledgers.verify, ""),
            ("export", ledgers.export, "--to events.jsonl"),
        ),
    ),
    "request": (
        "Deletion requests: receive one, decide it, see what became of it.",
        (
            ("add", request.add, "--ids withdrawn.txt"),
            ("approve", request.approve, "3"),
            ("refuse", request.refuse, "3 --reason 'not the person that it says'"),
            ("withdraw", request.withdraw, "3 --reason 'by letter'"),
            ("hold", request.hold, "3 --ground 'a court order'"),
            ("extend", request.extend, "3 --reason 'many requests at once'"),
            ("list", request.list_, ""),
            ("show", request.show, "3"),
        ),
    ),
    "batch": (
        "Forget what was asked: make a model, check it, release it.",
        (
            ("plan", batch.plan, ""),
            ("run", batch.run, ""),
            ("status", batch.status, ""),
            ("abandon", batch.abandon, "2 --reason 'the disk was full'"),
        ),
    ),
    "gate": (
        "The checks that a model must pass, and whether a method equals retraining by them.",
        (
            ("define", gate.define, "--from gate.yaml"),
            ("run", gate.run, "--method ssd --set alpha=3 --size 50"),
        ),
    ),
    "release": (
        "Which model serves, and which did before.",
        (("list", release.list_, ""),),
    ),
    "certify": (
        "Signed statements of what was forgotten: issue, check, prove and revoke them.",
        (
            ("issue", certify.issue, "1"),
            ("verify", certify.verify, "batch-0001.dsse.json --key signing-key.pub.pem"),
            ("prove", certify.prove, "--id photo-17.png --to proof.json"),
            ("revoke", certify.revoke, "1 --reason 'the wrong list'"),
        ),
    ),
}
"""Group -> its help, and its commands with an example of each."""


def add_requests(app: typer.Typer, settings: Mapping[str, Any]) -> None:
    """Give an application these groups."""
    for name, (told, commands) in GROUPS.items():
        group = typer.Typer(help=told, no_args_is_help=True, context_settings=dict(settings))
        for command, work, example in commands:
            epilog = f"Example: expunge {name} {command} {example}".strip()
            group.command(command, epilog=epilog)(work)
        app.add_typer(group, name=name)
