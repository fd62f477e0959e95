#!/usr/bin/env bash
# An engineer's job: a folder of photos, persons on them, and three requests, one after another.
#
#   PATH="$PWD/.venv/bin:$PATH" examples/photos_of_persons/run.sh OUT
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:?where to write: a folder}" && cd "$1"

say() { printf '\n$ expunge %s\n' "$*"; expunge "$@"; }

python "$here/make_photos.py" photos
say train --data photos --model cnn --epochs 8 --lr 0.05 --batch-size 64 --out first

# The first: all photos of one person.
method="--method neggrad_plus --set epochs=3 --set lr=0.02 --set batch_size=64"
say unlearn first --forget group:person=p007 $method --with-reference --report pages/1 --out second

# The second: a list, as somebody types it. Some of it was struck before, some was never learned.
cat >withdrawn.txt <<'LIST'
# from the e-mail of 3 May
p003_*            # all of a person
p007_0012.png     # of the first request
p011_0025
holiday.png
LIST
say unlearn second --forget ids:withdrawn.txt $method --with-reference --out third

# The third leaves the house: no name, no path.
say unlearn third --forget group:person=p002 $method --redact-ids --request-id 2026-14 --out fourth

say audit third --original first --all-forgotten --retrained third-retrained
