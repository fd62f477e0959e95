"""Every command: where its work is, what it does in one line, and an example.

Help and mistakes read this alone; a command's module is imported when the command is asked for
(`expunge.cli.tree`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Line(NamedTuple):
    """What is known of a command, or of a group of them, before anything of it is imported.

    work: the function as `module:name` within `expunge.cli`; empty of a group that does nothing by
    itself. says: the first line of its docstring; of such a group its help. example: the words after
    its name.
    """

    work: str
    says: str
    example: str = ""


COMMANDS: Mapping[str, Line] = {
    "": Line(
        "root:root",
        "Make a trained PyTorch model forget part of its training data, and measure whether it did.",
    ),
    "demo": Line(
        "overview:demo",
        "Forget on handwritten digits by several methods, beside retraining, and explain the table.",
        "--out expunge-demo",
    ),
    "train": Line(
        "models:train",
        "Train an original model and write its folder.",
        "--data digits --model cnn --epochs 20 --lr 0.05 --batch-size 128 --out runs/original",
    ),
    "import": Line(
        "models:import_",
        "Make a model folder of a checkpoint that was trained elsewhere.",
        "--model mynet:build --weights net.safetensors --data photos@64 --recipe recipe.yaml"
        " --mean 0.49,0.48,0.45 --std 0.25,0.24,0.26 --out runs/imported",
    ),
    "prune": Line(
        "sparsity:prune",
        "Make a sparse original: train, cut, rewind, train again. Unlearning keeps its mask.",
        "--data digits --model cnn --epochs 20 --lr 0.05 --batch-size 128 --pruner omp"
        " --sparsity 0.95 --out runs/sparse",
    ),
    "recommend": Line(
        "recommend:recommend",
        "Name methods for a request: what fits, what each would take on this model, and why.",
        "runs/original --forget class:3 --budget 60",
    ),
    "unlearn": Line(
        "forget:unlearn",
        "Make a model forget: write a new model folder, leave the old one as it is.",
        "runs/original --forget class:3 --method neggrad_plus --set alpha=0.9 --with-reference"
        " --out runs/without-3",
    ),
    "inspect": Line(
        "inspect:inspect",
        "Look for a backdoor in a model without knowledge of its trigger or poison.",
        "runs/backdoored --picture triggers.png --suspects suspects.txt",
    ),
    "cleanse": Line(
        "cleanse:cleanse",
        "Make a backdoored model forget its poison, and measure whether the trigger still works.",
        "runs/backdoored --method finetune --known-fraction 0.5 --with-reference --out runs/clean",
    ),
    "audit": Line(
        "forget:audit",
        "Score a model: what it still knows of the forgotten, the retained and the unseen.",
        "runs/without-3 --original runs/original --retrained runs/without-3-retrained",
    ),
    "export": Line(
        "models:export",
        "Write a model's weights as a plain checkpoint, for code that knows nothing of Expunge.",
        "runs/without-3 --to net.pt --key model",
    ),
    "list": Line(
        "overview:list_",
        "Show what there is: what it does and reads, its parameters, where it was published.",
        "methods neggrad_plus",
    ),
    "diagnose": Line("", "Look into why: what theory says, and what is measured."),
    "diagnose sparsity": Line(
        "sparsity:diagnose",
        "Does the error of gradient ascent fall with sparsity as its bound says? Table and figure.",
        "--data digits --model cnn --epochs 20 --lr 0.05 --batch-size 128 --forget random:0.1"
        " --set-method lr=0.005 --out runs/theory",
    ),
    "study": Line("", "Compare methods over seeds and settings, as a file describes it."),
    "study list": Line(
        "study:list_",
        "The studies that come with the package: run one by its name.",
    ),
    "study run": Line(
        "study:run",
        "Make what is missing: finished cells stay, failed ones are tried again.",
        "smoke --out runs/smoke --workers 2",
    ),
    "study status": Line(
        "study:status",
        "How many cells are done, running, failed, and why these failed.",
        "smoke --out runs/smoke",
    ),
    "study results": Line(
        "study:results",
        "The papers' tables with intervals, floor and claims, on the screen and as files.",
        "smoke --out runs/smoke",
    ),
    "study power": Line(
        "study:power",
        "How many seeds a difference needs, from the spread that the finished seeds show.",
        "smoke --out runs/smoke --difference 2",
    ),
    "study report": Line(
        "study:report",
        "One page to read and to print, with tables and figures as files beside it.",
        "runs/smoke",
    ),
    "study records": Line(
        "study:records",
        "Pack what was found, without weights, to publish it or to go on from it elsewhere.",
        "runs/smoke --out kept",
    ),
    "study publish": Line(
        "study:publish",
        "Log every finished row as a run of MLflow: scores, settings, tags, and cell.json as a file.",
        "runs/smoke --to mlflow:http://localhost:5000",
    ),
    "bank": Line(
        "",
        "Models trained as an original was, each on a half of its samples, which audits compare with.",
    ),
    "bank build": Line(
        "bank:build",
        "Train what is missing: finished models stay, and one bank serves every request to the model.",
        "runs/original --models 16 --workers 2",
    ),
    "bank status": Line(
        "bank:status",
        "How many models there are, what they take, and which of them learned from deleted samples.",
        "runs/original",
    ),
    "bank purge": Line(
        "bank:purge",
        "Take what was deleted out of a bank: ids, labels, logits, and weights that learned from it.",
        "runs/without-3 --renew",
    ),
    "cache": Line(
        "",
        "See what is kept to save time (decoded images, digests of files), and remove it.",
    ),
    "cache list": Line(
        "cache:list_",
        "Show what is kept to save time: of which data, how large, when it was used last.",
    ),
    "cache purge": Line(
        "cache:purge_",
        "Remove what is kept, all or some of it, and say what that freed.",
        "--older-than 30",
    ),
    "ledger": Line("", "Where deletion requests are kept, with all that became of them."),
    "ledger init": Line(
        "ledgers:init",
        "Begin a ledger of deletion requests for a model, which is live from then on.",
        "runs/original",
    ),
    "ledger status": Line(
        "ledgers:status",
        "What waits, what is due when, and which model is live.",
    ),
    "ledger verify": Line(
        "ledgers:verify",
        "Check the chain of events, the files of every model, and every certificate.",
    ),
    "ledger rotate-key": Line(
        "ledgers:rotate_key",
        "Make a new key that signs certificates from now on; earlier ones are checked with the old key.",
        '--reason "a year has passed"',
    ),
    "ledger export": Line(
        "ledgers:export",
        "Write all events, one a line, as they are chained.",
        "--to events.jsonl",
    ),
    "request": Line("", "Deletion requests: receive one, decide it, see what became of it."),
    "request add": Line(
        "request:add",
        "Receive a request to forget samples: decided and struck at once, for you answer for the"
        " ledger.",
        "--ids withdrawn.txt",
    ),
    "request approve": Line(
        "request:approve",
        "Decide that a request will be done; its samples are struck at once.",
        "3",
    ),
    "request refuse": Line(
        "request:refuse",
        "Refuse a request that nothing was struck for.",
        "3 --reason 'not the person that it says'",
    ),
    "request withdraw": Line(
        "request:withdraw",
        "Note that whoever asked takes a request back; once struck it stays so.",
        "3 --reason 'by letter'",
    ),
    "request hold": Line(
        "request:hold",
        "Note why a request waits. The legal clock goes on.",
        "3 --ground 'a court order'",
    ),
    "request duplicate": Line(
        "request:duplicate",
        "Say that a request asks for what an earlier one does: it is answered with that one.",
        "4 --of 3 --reason 'the same letter'",
    ),
    "request extend": Line(
        "request:extend",
        "Note that the person was told of a later date, and why, as the request's law allows.",
        "3 --reason 'many requests at once'",
    ),
    "request copies": Line(
        "copies:copies",
        "Look for copies of a request's samples under other ids; they are proposed, and stay as they"
        " are.",
        "3 --pictures pairs.png",
    ),
    "request decide": Line(
        "copies:decide",
        "Say whose proposed copies are; the same person's join the request, and are struck as it is.",
        "3 --copy photo-18.png --as same-person",
    ),
    "request list": Line("request:list_", "All requests, the one that is due first at the top."),
    "request show": Line(
        "request:show",
        "One request: what it names, what was decided, and every event of it.",
        "3",
    ),
    "batch": Line("", "Forget what was asked: make a model, check it, release it."),
    "batch plan": Line(
        "batch:plan",
        "What forgetting all that waits would cost by each way, when the batch starts, and why then.",
    ),
    "batch run": Line(
        "batch:run",
        "Forget all requests that wait: retrain without them, check the model, release and certify it.",
    ),
    "batch status": Line("batch:status", "All batches, and how far each is."),
    "batch abandon": Line(
        "batch:abandon",
        "Give a batch up: its requests wait for the next one.",
        "2 --reason 'the disk was full'",
    ),
    "gate": Line(
        "",
        "The checks that a model must pass, and whether a method equals retraining by them.",
    ),
    "gate define": Line(
        "gate:define",
        "Fix the gate that holds from now on, before anything is measured; an earlier one stays.",
        "--from gate.yaml",
    ),
    "gate run": Line(
        "gate:run",
        "Qualify a method for the live model: several models that it made, beside several"
        " retrained ones.",
        "--method ssd --set alpha=3 --size 50",
    ),
    "release": Line("", "Which model serves, which did before, and what is kept of those."),
    "release promote": Line(
        "release:promote",
        "Let a candidate serve, which `batch run --no-promote` left, and certify its batch.",
        "3",
    ),
    "release rollback": Line(
        "release:rollback",
        "Let an earlier model serve again.",
        "1 --by 'Erika Muster' --reason 'the new model fails in the shop' --yes",
    ),
    "release purge": Line(
        "release:purge",
        "Delete what still knows struck samples, on the day that certificates name.",
        "--dry-run",
    ),
    "release list": Line(
        "release:list_",
        "Every model that serves, did or may, the live one first, and what it knows of the struck.",
    ),
    "certify": Line(
        "",
        "Signed statements of what was forgotten: issue, check, prove and revoke them.",
    ),
    "certify issue": Line(
        "certify:issue",
        "Issue the certificate of a released batch; again, it gives the same bytes.",
        "1",
    ),
    "certify verify": Line(
        "certify:verify",
        "Check a certificate with its file and the signer's public key alone: no ledger, no network.",
        "batch-0001.dsse.json --key signing-key.pub.pem",
    ),
    "certify prove": Line(
        "certify:prove",
        "Write the proof that one id is among those of a certificate. It is for that person alone.",
        "--id photo-17.png --to proof.json",
    ),
    "certify revoke": Line(
        "certify:revoke",
        "Say that a certificate no longer holds. Whoever has its file must be told, for it stays"
        " signed.",
        "1 --reason 'the wrong list'",
    ),
    "serve": Line(
        "serve:serve",
        "Receive requests by HTTP, and show in a browser what is due; needs the extra `serve`.",
        "--port 8321",
    ),
    "serve token": Line("", "Who may use the server."),
    "serve token add": Line(
        "serve:token_add",
        "Make a token, which is shown this once: hand it on in a safe way. Its name is never"
        " given again.",
        "front-desk --role submitter",
    ),
    "serve token list": Line(
        "serve:token_list",
        "Whose tokens there are, with what role and since when.",
    ),
    "serve token revoke": Line(
        "serve:token_revoke",
        "Refuse a token from now on, also by a server that runs.",
        "front-desk",
    ),
}
"""Full name -> its line, each group before what it holds, in the order of `--help`; "" is `expunge`."""
