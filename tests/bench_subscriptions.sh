#!/usr/bin/env bash
# What Subscriptions cost and how quick they are: writes with 10,000 of them that no write is for, beside writes
# without any; from a write to its notification; the same with endpoints that never answer; notifications a second; and the memory that a million events take
# which wait for an endpoint that never answers.
#   bash tests/bench_subscriptions.sh
# With AUGURY_TEST_POSTGRES=postgres://…/postgres on PostgreSQL.
set -euo pipefail
cd "$(dirname "$0")/.."
postgres=${AUGURY_TEST_POSTGRES:-}
unset AUGURY_TEST_POSTGRES
many=${BENCH_SUBSCRIPTIONS:-10000}
if [ -z "${AUGURY_BIN:-}" ]; then
  cargo build --release --quiet -p augury -p augury-tests --bins
  AUGURY_BIN=${CARGO_TARGET_DIR:-target}/release/augury
fi
augury=$AUGURY_BIN
unset AUGURY_BIN
bench=$(dirname "$augury")/subscribers
work=$(mktemp -d)
server=
cleanup() { [ -z "$server" ] || kill "$server" 2> /dev/null || true; rm -rf "$work"; }
trap cleanup EXIT

serve() {
  local database
  if [ -n "$postgres" ]; then
    database=bench_subscriptions_${RANDOM}_$1
    psql -qc "CREATE DATABASE $database" "$postgres" > /dev/null
    database=${postgres%/*}/$database
  else
    database=sqlite:$work/$1.db
  fi
  AUGURY_BIND=127.0.0.1:18404 AUGURY_DATA_DIR="$work/$1" AUGURY_DATABASE_URL="$database" AUGURY_LOG=error AUGURY_WEBHOOK_RATE=1000000 "$augury" serve &
  server=$!
  for _ in $(seq 400); do if (exec 3<> /dev/tcp/127.0.0.1/18404) 2> /dev/null; then return; fi; sleep 0.05; done
  echo "no server" >&2
  exit 1
}
phase() { # name phase options…
  local name=$1
  shift
  serve "$name"
  "$bench" --to 127.0.0.1:18404 --pid "$server" "$@" > "$work/$name.json"
  echo "$name: $(cat "$work/$name.json")"
  kill "$server"
  wait "$server" || true
  server=
}

for round in 1 2 3; do
  phase "none$round" matching
  phase "many$round" matching --subscriptions "$many"
done
phase latency latency --subscriptions 1 --seconds 10
for round in 1 2 3 4 5; do
  phase "thousand$round" latency --subscriptions 1000 --seconds 10
  phase "dead$round" dead --subscriptions 1000 --seconds 10
done
phase rate rate --subscriptions 100 --rate 500
phase undelivered undelivered --subscriptions 1000 --rate 1000
python3 - "$work" "$many" <<'PY'
import json, statistics, sys
work, many = sys.argv[1:]
load = lambda name: json.load(open(f"{work}/{name}.json"))
none, some = (statistics.median(load(f"{name}{n}")["rate"] for n in (1, 2, 3)) for name in ("none", "many"))
print(f"writes without Subscriptions {none:,.0f}/s; with {many} of them {some:,.0f}/s = {100 * some / none:.0f} %")
one = load("latency")
print(f"write to notification: p50 {one['p50_ms']:.1f} ms, p99 {one['p99_ms']:.1f} ms")
# One of two runs that follow each other may meet a slow moment of the disk: of five pairs the one in the middle.
pairs = [(load(f"thousand{n}")["p99_ms"], load(f"dead{n}")["p99_ms"]) for n in range(1, 6)]
print(f"with 1,000: p99 {statistics.median(live for live, _ in pairs):.1f} ms; of them 100 dead: p99 "
      f"{statistics.median(dead for _, dead in pairs):.1f} ms; of the pairs "
      f"{', '.join(f'{100 * dead / live:.0f} %' for live, dead in sorted(pairs, key=lambda pair: pair[1] / pair[0]))}")
print(f"notifications: {load('rate')['rate']:,.0f}/s, {load('rate')['per_core_second']:,.0f} for each second of a processor")
waiting = load("undelivered")
print(f"memory before {waiting['events']:,} events wait: {waiting['before_mb']} MB; with them {waiting['with_mb']} MB")
PY
