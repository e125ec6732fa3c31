#!/usr/bin/env bash
# What needs the reference data beside the checkout (AUGURY_SHARED, default ../shared).
set -euo pipefail
cd "$(dirname "$0")/.."
shared=$(realpath "${AUGURY_SHARED:-../shared}" 2>/dev/null) || true
[ -d "$shared/data" ] || { echo "the reference data is not there: set AUGURY_SHARED" >&2; exit 1; }
export AUGURY_SHARED=$shared
cargo build --release --quiet -p augury
export AUGURY_BIN=${CARGO_TARGET_DIR:-target}/release/augury
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export AUGURY_DATA_DIR=$work

echo "== vectors"
while read -r model file; do
  "$AUGURY_BIN" models eval "$model" --vectors "$shared/models/vectors/$file.json"
done <<'MODELS'
prevent-base prevent_base
ckd-epi-2021 ckd_epi_2021
kfre-4 kfre4
fib-4 fib4
meld-3 meld3
news2 news2
MODELS

echo "== offline scoring"
"$AUGURY_BIN" score "$shared/data/synthea/open" --as-of latest -o "$work/one.ndjson"
"$AUGURY_BIN" score "$shared/data/synthea/open" --as-of latest -o "$work/two.ndjson"
cmp "$work/one.ndjson" "$work/two.ndjson"
python3 tests/acceptance/hand.py "$work/one.ndjson"
if cargo metadata --no-deps --format-version 1 | grep -q '"name":"corpus"'; then
  echo "== corpus"
  cargo run --release --quiet -p fhir --example corpus -- examples "$shared/data/r4-examples/json" "$shared/data/r4-examples/json-only"
  cargo run --release --quiet -p fhir --example corpus -- bad "$shared/data/bad" tests/acceptance/bad-accepted.tsv
fi
