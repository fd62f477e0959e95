"""What a log shows while a study is busy with one long cell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

STUDY = """\
name: slow
data: [digits]
models: [resnet20]
recipes:
  long: {epochs: 500, lr: 0.05, batch_size: 32}
methods:
  finetune: {}
seeds: [0]
"""


def test_a_study_of_a_long_cell_speaks_early_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    start = time.monotonic()
    process = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "expunge",
            "study",
            "run",
            "study.yaml",
            "--out",
            "out",
        ],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    limit = threading.Timer(60, process.kill)  # a command that says nothing ends the test, too
    limit.start()
    try:
        told = process.stderr.readline()
        early = time.monotonic() - start
        while "training: " not in told and (more := process.stderr.readline()):
            told = more
        process.send_signal(signal.SIGINT)
        _, left = process.communicate(timeout=60)
    finally:
        limit.cancel()
        process.kill()
        process.communicate()
    assert early < 20, "long before anything is trained, on a busy machine too"
    assert re.match(
        r"study slow: 0 of 9 cells; original, seed 0; training: [\d,]+ of [\d,]+ steps", told
    )
    assert left.splitlines()[-1].startswith("error: interrupted"), left
    assert "Traceback" not in left
