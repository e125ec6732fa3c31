#!/usr/bin/env bash
# Searching with few and with many Observations in the store.
#   bash tests/bench_search.sh [OBSERVATIONS ...]    (default: 100000 5000000)
# With AUGURY_TEST_POSTGRES=postgres://… also on PostgreSQL, in a schema of its own for each size.
set -euo pipefail
cd "$(dirname "$0")/.."
postgres=${AUGURY_TEST_POSTGRES:-}
unset AUGURY_TEST_POSTGRES
[ $# -gt 0 ] || set -- 100000 5000000
seconds=${BENCH_SECONDS:-10}
cargo build --release --quiet -p augury -p augury-tests --bins
out=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
server=
cleanup() { [ -z "$server" ] || kill "$server" 2> /dev/null || true; rm -rf "$work"; }
trap cleanup EXIT
port=18411

show() { python3 tests/bench_line.py "$@"; }
search() { # NAME FILE
  show "$1" "$("$out/load" --to 127.0.0.1:$port --method GET --path '{}' --lines "$2" --connections 16 --seconds "$seconds" --pid "$server")"
}

measure() { # NAME OBSERVATIONS
  local name=$1 size=$2
  until [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:$port/health/ready)" = 200 ]; do sleep 0.05; done
  local began=$SECONDS
  # 50 Observations a patient, of 10 codes, over three years; no model reads the codes.
  python3 tests/bench_chart.py bundles "$size" > "$work/lines"
  show "$name: filling with $size" "$("$out/load" --to 127.0.0.1:$port --path /fhir --lines "$work/lines" --connections 4 \
    --requests "$(wc -l < "$work/lines")" --seconds 7200 --items 1020 --pid "$server")"
  rm "$work/lines"
  python3 tests/bench_chart.py chart "$size" > "$work/chart"
  python3 tests/bench_chart.py chain "$size" > "$work/chain"
  python3 tests/bench_chart.py has "$size" > "$work/has"
  echo "filled in $((SECONDS - began)) s"
  search "$name: one code of a chart, newest first" "$work/chart"
  search "$name: chained" "$work/chain"
  search "$name: _has" "$work/has"
  kill "$server"; wait "$server" 2> /dev/null || true; server=
}

for size in "$@"; do
  AUGURY_BIND=127.0.0.1:$port AUGURY_DATA_DIR="$work/$size" AUGURY_LOG=error "$out/augury" serve & server=$!
  measure "SQLite" "$size"
  rm -rf "${work:?}/$size"
  if [ -n "$postgres" ]; then
    schema=bench_$size
    psql -q "$postgres" -c "DROP SCHEMA IF EXISTS $schema CASCADE" -c "CREATE SCHEMA $schema" 2> /dev/null
    AUGURY_BIND=127.0.0.1:$port AUGURY_DATA_DIR="$work/pg$size" AUGURY_LOG=error \
      AUGURY_DATABASE_URL="$postgres?options=-csearch_path%3D$schema" "$out/augury" serve & server=$!
    measure "PostgreSQL" "$size"
    psql -q "$postgres" -c "DROP SCHEMA $schema CASCADE" 2> /dev/null
  fi
done
