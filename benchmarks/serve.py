"""Requests a second that `expunge serve` accepts while another process writes as a batch does, or worse.

    python benchmarks/serve.py [--seconds 10] [--senders 4] [--hold 0.1] [--pause 0.1]

The other process holds the ledger's only write transaction for `hold` seconds, lets go for `pause`, and
so on. Every sender waits for its answer before it sends the next request, of ten ids.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from machine import machine, save

from expunge.requests.ledger import Ledger
from expunge.requests.server.tokens import add_token

FILE = Path(__file__).parent / "results/serve-cpu.json"
IDS = 10
AIM = 10
TOLD = {"organisation": "a benchmark", "role": "controller", "law": "gdpr", "positional": "no"}
BATCH = """
import sys, time
from expunge.requests.ledger import Ledger

ledger, hold, pause = Ledger.open(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
print("ready", flush=True)
while True:
    with ledger.write("batch") as writing:
        writing.event("step", {})
        time.sleep(hold)
    time.sleep(pause)
"""


def send(port: int, token: str, name: str, until: float, took: list[float], bad: list[int]) -> None:
    """Send one request after the other; the seconds that each took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    number = 0
    while time.perf_counter() < until:
        number += 1
        body = json.dumps({"ids": [f"{name}-{number}-{one}" for one in range(IDS)]})
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"{name}-{number}"}
        begun = time.perf_counter()
        connection.request("POST", "/v1/requests", body, headers)
        answer = connection.getresponse()
        answer.read()
        took.append(time.perf_counter() - begun)
        if answer.status != 201:
            bad.append(answer.status)


def accepted(folder: Path, given: argparse.Namespace, *, beside: bool) -> dict[str, Any]:
    """What is accepted in so many seconds. beside: while the other process writes."""
    ledger = Ledger.create(folder, TOLD, data_set="table")
    token = add_token(ledger, "sender", "submitter")
    serve = [sys.executable, "-m", "expunge", "serve", "--ledger", str(folder), "--port", "0"]
    batch = [sys.executable, "-c", BATCH, str(folder), str(given.hold), str(given.pause)]
    running = [subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)]
    try:
        line = (running[0].stdout or sys.stdin).readline()
        port = int(line.rpartition(";")[0].rpartition(":")[2])
        if beside:
            running.append(subprocess.Popen(batch, stdout=subprocess.PIPE, text=True))
            (running[1].stdout or sys.stdin).readline()
        took: list[float] = []
        bad: list[int] = []
        send(port, token, "warm", time.perf_counter() + 0.5, [], bad)
        begun = time.perf_counter()
        senders = [
            threading.Thread(
                target=send, args=(port, token, f"s{one}", begun + given.seconds, took, bad)
            )
            for one in range(given.senders)
        ]
        for one in senders:
            one.start()
        for one in senders:
            one.join()
        seconds = time.perf_counter() - begun
    finally:
        for process in running:
            process.terminate()
            process.wait()
    return {
        "requests_per_second": round((len(took) - len(bad)) / seconds, 1),
        "refused": len(bad),
        "median_seconds": round(statistics.median(took), 4),
        "longest_seconds": round(max(took), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--hold", type=float, default=0.1)
    parser.add_argument("--pause", type=float, default=0.1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["EXPUNGE_KEYS"] = str(Path(name) / "keys")
        alone = accepted(Path(name) / "alone", given, beside=False)
        beside = accepted(Path(name) / "beside", given, beside=True)
    print("alone: ", alone)
    print("beside:", beside, f"(aim: {AIM} a second)")
    told = {**vars(given), "ids": IDS, "aim": AIM, "alone": alone, "beside_a_batch": beside}
    save(FILE, "serve", {"machine": machine("cpu"), **told})


if __name__ == "__main__":
    main()
