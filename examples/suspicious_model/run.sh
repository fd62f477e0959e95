#!/usr/bin/env bash
# A security engineer's job: a checkpoint from elsewhere that may hold a backdoor. Is it poisoned? Which
# pictures did it? Cleanse it by the third of them that somebody has found, and by clean pictures alone.
#
#   PATH="$PWD/.venv/bin:$PATH" examples/suspicious_model/run.sh OUT
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:?where to write: a folder}" && cd "$1"
export PYTHONPATH="$here"  # where the supplier's network is found

say() { printf '\n$ expunge %s\n' "$*"; expunge "$@"; }

python "$here/supplier.py" .
how="--model supplier:Net --weights net.pt --mean 0.5 --std 0.5 --expect-accuracy 97"

# Nothing is known but clean pictures of one's own. The trigger is typed to see how it went.
# (`--auto` tries such settings by itself, a minute or two, and chooses by triggers that it inverts.)
trigger="--trigger blend:file=pattern.png,alpha=0.3 --target 0 --allow-code"
say import $how --data own.npz --out own
say inspect own --allow-code
say cleanse own --method fine_pruning --set lost=0.1 --set lr=0.03 --set batch_size=16 $trigger --out own-cleansed

# The supplier hands over the pictures it learned from, and somebody has found a third of the poison.
# To forget that alone leaves the rest in the data, and the backdoor with it.
say import $how --data delivery.npz --out imported
say cleanse imported --poison ids:found.txt --method neggrad_plus $trigger --out part
# More like it are looked for, and ways to forget them are tried.
say cleanse imported --poison ids:found.txt --extend-poison all.txt --auto --budget 20s $trigger --out cleansed

say export cleansed --to cleansed.pt --key model_state_dict --allow-code
