#!/usr/bin/env bash
# One person's photos, from an e-mail to a certificate. README.md says each step, and what may be said.
#
#   PATH="$PWD/.venv/bin:$PATH" examples/photos/run.sh OUT
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:?where to write: a folder}" && cd "$1"
export EXPUNGE_KEYS="$PWD/keys"  # the example's own; yours lie in ~/.local/share/expunge/keys

say() { printf '\n$ expunge %s\n' "$*"; expunge "$@"; }

python "$here/make_photos.py" photos

# 1. The model that serves, and a ledger of it.
say train --data photos --model cnn --epochs 15 --lr 0.05 --batch-size 32 --out model
say ledger init model --organisation "Example Ltd"

# 2. "Please take my photos out": person 7 writes.
(cd photos && ls p007_*) >asked.txt
say request add --ids asked.txt --source e-mail

# 3. The model is made anew without them, checked, serves from then on, and a certificate says so.
say batch run

# 4. Whoever gets the certificate checks it, here with the model beside it.
signed=model-ledger/certificates/batch-0001.dsse.json live=model-ledger/models/batch-0001-retrain
say certify verify $signed --key model-ledger/signing-key.pub.pem --model $live

# 5. The person gets a proof that this photo is one of those that the certificate is about.
say certify prove --id p007_03.png --to proof.json
say certify verify $signed --key model-ledger/signing-key.pub.pem --proof proof.json
