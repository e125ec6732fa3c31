#!/usr/bin/env bash
# What needs the reference data beside the checkout (AUGURY_SHARED, default ../shared), and Python 3.
set -euo pipefail
cd "$(dirname "$0")/.."
shared=$(realpath "${AUGURY_SHARED:-../shared}" 2> /dev/null) || true
[ -d "$shared/data" ] && [ -d "$shared/models/vectors" ] || { echo "the reference data is not at ${AUGURY_SHARED:-../shared}: set AUGURY_SHARED" >&2; exit 1; }
command -v python3 > /dev/null || { echo "Python 3 is needed (Debian: apt-get install python3)" >&2; exit 1; }
# The server takes every AUGURY_ variable for a setting, and stops at one it does not know.
for name in "${!AUGURY_@}"; do [ "$name" = AUGURY_BIN ] || unset "$name"; done
if [ -n "${AUGURY_BIN:-}" ]; then
  augury=$AUGURY_BIN
  unset AUGURY_BIN
else
  cargo build --release --quiet -p augury
  augury=${CARGO_TARGET_DIR:-target}/release/augury
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export AUGURY_DATA_DIR=$work/data PYTHONDONTWRITEBYTECODE=1
mkdir "$AUGURY_DATA_DIR"

echo "== vectors"
while read -r model file; do
  "$augury" models eval "$model" --vectors "$shared/models/vectors/$file.json"
done <<'MODELS'
prevent-base prevent_base
ckd-epi-2021 ckd_epi_2021
kfre-4 kfre4
fib-4 fib4
meld-3 meld3
news2 news2
MODELS

echo "== formulas by hand"
python3 tests/acceptance/vectors.py "$shared"

echo "== offline scoring"
"$augury" score "$shared/data/synthea/open" --as-of latest -o "$work/one.ndjson"
"$augury" score "$shared/data/synthea/open" --as-of latest -o "$work/two.ndjson"
cmp "$work/one.ndjson" "$work/two.ndjson"
python3 tests/acceptance/hand.py "$shared" "$work/one.ndjson"

echo "== one question, one answer"
python3 tests/acceptance/same.py "$augury" "$shared/data/synthea/open"

echo "== corpus"
cargo build --release --quiet -p fhir --example corpus --example xml_pairs
corpus=${CARGO_TARGET_DIR:-target}/release/examples/corpus
"$corpus" examples "$shared/data/r4-examples/json" "$shared/data/r4-examples/json-only"
"$corpus" bad "$shared/data/bad" tests/acceptance/bad-accepted.tsv
cargo build --release --quiet -p fhir --example verdicts --example package
"${CARGO_TARGET_DIR:-target}/release/examples/verdicts" "$shared/data/bad" tests/acceptance/verdicts.tsv
core=$shared/data/us-core/6.1.0
"${CARGO_TARGET_DIR:-target}/release/examples/package" "$core/definitions" "$core/examples" tests/acceptance/us-core-mutants.tsv
"$augury" validate "$core/examples/Patient-example.json" --package "$core/definitions" > "$work/patient"
if grep '"severity":"error"' "$work/patient"; then exit 1; fi
"$corpus" specification "$shared/data/bad/spec-4.0.1-validation-examples"
pairs=${CARGO_TARGET_DIR:-target}/release/examples/xml_pairs
"$pairs" pairs "$shared/data/r4-examples"
"$pairs" read "$shared/data/bad" "$shared/data/fhirpath" | tail -n 1

echo "== subscriptions"
# With fhir.resources beside it, where tests/run.sh has installed that.
python=tests/clients/venv/bin/python
[ -x "$python" ] || python=python3
"$python" tests/acceptance/subscriptions.py "$augury" "$shared/data/subscriptions-backport"

echo "== fhirpath"
cargo build --release --quiet -p fhir --example fhirpath_suite
"${CARGO_TARGET_DIR:-target}/release/examples/fhirpath_suite" "$shared/data/fhirpath"

echo "== patch"
cargo build --release --quiet -p fhir --example patch_suites
"${CARGO_TARGET_DIR:-target}/release/examples/patch_suites" "$shared/data/patch"
echo "acceptance passed"
