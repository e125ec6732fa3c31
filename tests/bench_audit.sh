#!/usr/bin/env bash
# What the audit trail costs: the same server with the trail off, durable before the answer, and buffered,
# in turns, and how long it takes to look at a long trail.
#   bash tests/bench_audit.sh
# With AUGURY_TEST_POSTGRES=postgres://…/postgres the same on PostgreSQL. BENCH_EVENTS (default 1,000,000) is
# the length of the trail that is verified, 0 for none.
set -euo pipefail
cd "$(dirname "$0")/.."
postgres=${AUGURY_TEST_POSTGRES:-}
unset AUGURY_TEST_POSTGRES
seconds=${BENCH_SECONDS:-5}
connections=${BENCH_CONNECTIONS:-64}
rounds=${BENCH_ROUNDS:-12}
modes=(off durable buffered)
events=${BENCH_EVENTS:-1000000}
if [ -z "${AUGURY_BIN:-}" ]; then
  cargo build --release --quiet -p augury -p augury-tests --bins
  AUGURY_BIN=${CARGO_TARGET_DIR:-target}/release/augury
fi
augury=$AUGURY_BIN
unset AUGURY_BIN
load=$(dirname "$augury")/load
work=$(mktemp -d)
servers=()
cleanup() { [ ${#servers[@]} = 0 ] || kill "${servers[@]}" 2> /dev/null || true; rm -rf "$work"; }
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

serve() { # mode database [port] [directory]
  rm -f "${4:-$work}/audit-heads" # of another database
  AUGURY_BIND=127.0.0.1:${3:-18403} AUGURY_DATA_DIR="${4:-$work}" AUGURY_DATABASE_URL="$2" AUGURY_AUDIT="$1" AUGURY_LOG=warn "$augury" serve &
  servers+=("$!")
  for _ in $(seq 200); do if (exec 3<> "/dev/tcp/127.0.0.1/${3:-18403}") 2> /dev/null; then return; fi; sleep 0.05; done
  echo "no server" >&2
  exit 1
}
end() {
  local one
  for one in "${servers[@]}"; do kill "$one"; wait "$one" || true; done
  servers=()
}
post() { "$load" --seconds "$seconds" --to "127.0.0.1:$1" --path /fhir/Observation --lines "$work/observations" --connections "$connections" --pid "$2" --locations "$work/at"; }
get() { "$load" --seconds "$seconds" --to "127.0.0.1:$1" --method GET --path '{}' --lines "$work/get" --connections "$connections" --pid "$2"; }

# They take turns of a few seconds, to and fro, as a machine is not always as quick, and what one leaves behind to be
# sealed falls into the turn of another.
turns() { # what
  local round n order
  for round in 0 $(seq "$rounds"); do
    if [ $((round % 2)) = 1 ]; then order="0 1 2"; else order="2 1 0"; fi
    for n in $order; do "$1" $((18403 + n)) "${servers[n]}" > "$work/${modes[n]}.$1.$round"; done
  done
  end
}

run() { # name
  local database n
  for n in 0 1 2; do
    mkdir -p "$work/$n"
    serve "${modes[n]}" "$(new "post$n")" $((18403 + n)) "$work/$n"
  done
  turns post
  # What is read is the same for all.
  database=$(new read)
  serve durable "$database"
  post 18403 "${servers[0]}" > /dev/null
  end
  sed -E 's/^"//; s#^https?://[^/]+##; s#/_history/.*##' "$work/at" > "$work/get"
  for n in 0 1 2; do
    cp "$work/secret" "$work/$n/"
    serve "${modes[n]}" "$(same "$database" "$n")" $((18403 + n)) "$work/$n"
  done
  turns get
  python3 - "$work" "$1" "$rounds" <<'PY'
import json, statistics, sys
work, name, rounds = sys.argv[1:]
def all(mode, what, of):
    # The one before the first warms up.
    return [json.load(open(f"{work}/{mode}.{what}.{n}"))[of] for n in range(1, int(rounds) + 1)]
for what in ("post", "get"):
    off = all("off", what, "rate")
    line = f"{name}: {what.upper():4}  off {sum(off) / len(off):>8,.0f}/s, {statistics.median(all('off', what, 'cpu_us')):.0f} us of processor time"
    for mode in ("durable", "buffered"):
        rate = all(mode, what, "rate")
        pairs = statistics.quantiles([100 * one / other for one, other in zip(rate, off)], n=4)
        line += (f"   {mode} {sum(rate) / len(rate):>8,.0f}/s = {100 * sum(rate) / sum(off):.1f} % (of pairs "
                 f"{pairs[1]:.1f}, quartiles {pairs[0]:.1f} and {pairs[2]:.1f}), "
                 f"{statistics.median(all(mode, what, 'cpu_us')):.0f} us")
    print(line)
PY
}

new() { echo "sqlite:$work/$1.db"; }
same() { # database number
  local of=${1#sqlite:} part
  for part in "" -wal -shm; do if [ -e "$of$part" ]; then cp "$of$part" "$work/$2/read.db$part"; fi; done
  echo "sqlite:$work/$2/read.db"
}
run SQLite
if [ -n "$postgres" ]; then
  new() { local name=bench_audit_${RANDOM}_$1; psql -qc "CREATE DATABASE $name" "$postgres" > /dev/null; echo "${postgres%/*}/$name"; }
  same() { psql -qc "CREATE DATABASE ${1##*/}_$2 TEMPLATE ${1##*/}" "$postgres" > /dev/null; echo "$1_$2"; }
  run PostgreSQL
fi

if [ "$events" -gt 0 ]; then
  serve durable "sqlite:$work/long.db"
  post 18403 "${servers[0]}" > /dev/null
  sed -E 's/^"//; s#^https?://[^/]+##; s#/_history/.*##' "$work/at" > "$work/get"
  "$load" --seconds 3600 --requests "$events" --to 127.0.0.1:18403 --method GET --path '{}' --lines "$work/get" --connections "$connections" --pid "${servers[0]}" > /dev/null
  end # which seals the rest
  TIMEFORMAT='verified in %R s, %U s of processor time'
  time AUGURY_DATA_DIR="$work" AUGURY_DATABASE_URL="sqlite:$work/long.db" "$augury" audit verify
fi
