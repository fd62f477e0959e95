#!/usr/bin/env bash
# A researcher's job: a method and data of one's own, against fine-tuning, over one setting and seeds.
#
#   PATH="$PWD/.venv/bin:$PATH" examples/own_method/run.sh OUT
set -euo pipefail
out=$(realpath -m "${1:?where to write: a folder that is not there yet}")
cd "$(dirname "${BASH_SOURCE[0]}")"  # modules of one's own are found in the folder where one works

say() { printf '\n$ expunge %s\n' "$*"; expunge "$@"; }

say study run study.yaml --out "$out" --allow-code
say study report "$out" --columns "UA,TA,avg gap" --siunitx  # for a paper: report/table.tex
