#!/usr/bin/env bash
# What the audit trail costs: the same server with the trail off, durable before the answer, and buffered,
# one after the other in one run, and how long it takes to look at a long trail.
#   bash tests/bench_audit.sh
# With AUGURY_TEST_POSTGRES=postgres://…/postgres the same on PostgreSQL. BENCH_EVENTS (default 1,000,000) is
# the length of the trail that is verified, 0 for none.
set -euo pipefail
cd "$(dirname "$0")/.."
postgres=${AUGURY_TEST_POSTGRES:-}
unset AUGURY_TEST_POSTGRES
seconds=${BENCH_SECONDS:-5}
connections=${BENCH_CONNECTIONS:-64}
events=${BENCH_EVENTS:-1000000}
if [ -z "${AUGURY_BIN:-}" ]; then
  cargo build --release --quiet -p augury -p augury-tests --bins
  AUGURY_BIN=${CARGO_TARGET_DIR:-target}/release/augury
fi
augury=$AUGURY_BIN
unset AUGURY_BIN
load=$(dirname "$augury")/load
work=$(mktemp -d)
server=
cleanup() { [ -z "$server" ] || kill "$server" 2> /dev/null || true; rm -rf "$work"; }
trap cleanup EXIT
python3 - "$work/observations" <<'PY'
import json, sys
with open(sys.argv[1], "w") as f:
    for n in range(20000):
        f.write(json.dumps({
            "resourceType": "Observation", "status": "final",
            "identifier": [{"system": "https://lab.example/observations", "value": f"{n:08d}"}],
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "1234-5"}], "text": "Something"},
            "subject": {"reference": f"Patient/bench-{n % 1000}"},
            "effectiveDateTime": "2024-05-06T07:08:09Z", "issued": "2024-05-06T07:08:09Z",
            "performer": [{"reference": "Practitioner/nurse-1", "display": "A Nurse"}],
            "valueQuantity": {"value": 110 + n % 50, "unit": "mmol/L", "system": "http://unitsofmeasure.org", "code": "mmol/L"}}) + "\n")
PY

serve() { # mode database
  rm -f "$work/audit-heads" # of another database
  AUGURY_BIND=127.0.0.1:18403 AUGURY_DATA_DIR="$work" AUGURY_DATABASE_URL="$2" AUGURY_AUDIT="$1" AUGURY_LOG=warn "$augury" serve &
  server=$!
  for _ in $(seq 200); do if (exec 3<> /dev/tcp/127.0.0.1/18403) 2> /dev/null; then return; fi; sleep 0.05; done
  echo "no server" >&2
  exit 1
}
end() { kill "$server"; wait "$server" || true; server=; }
post() { "$load" --seconds "$seconds" --to 127.0.0.1:18403 --path /fhir/Observation --lines "$work/observations" --connections "$connections" --pid "$server" --locations "$work/at"; }
get() { "$load" --seconds "$1" --to 127.0.0.1:18403 --method GET --path '{}' --lines "$work/get" --connections "$connections" --pid "$server"; }

run() { # name
  local database round mode
  for round in 1 2 3; do
    for mode in off durable buffered; do
      database=$(new "$mode$round")
      serve "$mode" "$database"
      post > "$work/$mode.post.$round"
      end
    done
  done
  # What is read is the same for all, and they take turns: a machine is not always as quick.
  database=$(new read)
  serve durable "$database"
  post > /dev/null
  end
  sed -E 's/^"//; s#^https?://[^/]+##; s#/_history/.*##' "$work/at" > "$work/get"
  for round in 1 2 3 4 5 6 7; do
    for mode in off durable buffered; do
      serve "$mode" "$database"
      get "$seconds" > "$work/$mode.get.$round"
      end
    done
  done
  python3 - "$work" "$1" <<'PY'
import json, statistics, sys
work, name = sys.argv[1:]
def median(mode, what, of):
    rounds = range(1, 4 if what == "post" else 8)
    return statistics.median(json.load(open(f"{work}/{mode}.{what}.{n}"))[of] for n in rounds)
for what in ("post", "get"):
    off, spent = median("off", what, "rate"), median("off", what, "cpu_us")
    print(f"{name}: {what.upper():4}  off {off:>8,.0f}/s, {spent:.0f} us of processor time" + "".join(
        f"   {mode} {median(mode, what, 'rate'):>8,.0f}/s = {100 * median(mode, what, 'rate') / off:.0f} %, "
        f"{median(mode, what, 'cpu_us'):.0f} us" for mode in ("durable", "buffered")))
PY
}

new() { echo "sqlite:$work/$1.db"; }
run SQLite
if [ -n "$postgres" ]; then
  new() { local name=bench_audit_${RANDOM}_$1; psql -qc "CREATE DATABASE $name" "$postgres" > /dev/null; echo "${postgres%/*}/$name"; }
  run PostgreSQL
fi

if [ "$events" -gt 0 ]; then
  serve durable "sqlite:$work/long.db"
  post > /dev/null
  sed -E 's/^"//; s#^https?://[^/]+##; s#/_history/.*##' "$work/at" > "$work/get"
  "$load" --seconds 3600 --requests "$events" --to 127.0.0.1:18403 --method GET --path '{}' --lines "$work/get" --connections "$connections" --pid "$server" > /dev/null
  end # which seals the rest
  TIMEFORMAT='verified in %R s, %U s of processor time'
  time AUGURY_DATA_DIR="$work" AUGURY_DATABASE_URL="sqlite:$work/long.db" "$augury" audit verify
fi
