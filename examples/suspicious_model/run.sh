#!/usr/bin/env bash
# A security engineer's job: a checkpoint from elsewhere, pictures that nobody trusts, a backdoor.
#
#   PATH="$PWD/.venv/bin:$PATH" examples/suspicious_model/run.sh OUT
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:?where to write: a folder}" && cd "$1"
export PYTHONPATH="$here"  # where the supplier's network is found

say() { printf '\n$ expunge %s\n' "$*"; expunge "$@"; }

python "$here/supplier.py" .
cp "$here/recipe.yaml" .
how="--model supplier:Net --weights net.pt --data pictures --mean 0.5 --std 0.5 --expect-accuracy 98"
say import $how --recipe recipe.yaml --out imported || true  # folders are read in the order of their names
printf 'zero\none\ntwo\nthree\n' >classes.txt              # and the supplier counted
say import $how --recipe recipe.yaml --classes classes.txt --out imported

# What was gathered from strangers' pages is suspected, and the corner that is on all of it.
echo 'web_*' >suspected.txt
poison="--poison ids:suspected.txt --trigger patch:size=3,margin=0,colour=255 --allow-code"
say cleanse imported $poison --method finetune --set epochs=5 --out tuned
say cleanse imported $poison --method retrain --out cleansed  # exact, and cheap here

say export cleansed --to cleansed.pt --key model_state_dict --allow-code
