#!/usr/bin/env bash
# What a second process over one PostgreSQL brings. On one machine both take from the same processors, so each gets
# a share of its own (a control group; root), small enough that PostgreSQL and the load have what they need:
# the limit is then the process, as it is where each has a machine.
#   AUGURY_TEST_POSTGRES=postgres://…/postgres bash tests/bench_replicas.sh
# BENCH_SHARE (default 25) is the share of one processor that each gets, in percent.
set -euo pipefail
cd "$(dirname "$0")/.."
postgres=${AUGURY_TEST_POSTGRES:?a PostgreSQL to make databases in}
unset AUGURY_TEST_POSTGRES
seconds=${BENCH_SECONDS:-8}
share=${BENCH_SHARE:-25}
if [ -z "${AUGURY_BIN:-}" ]; then
  cargo build --release --quiet -p augury -p augury-tests --bins
  AUGURY_BIN=${CARGO_TARGET_DIR:-target}/release/augury
fi
augury=$AUGURY_BIN
unset AUGURY_BIN
load=$(dirname "$augury")/load
work=$(mktemp -d)
group=/sys/fs/cgroup/cpu/augury_bench_$$
servers=()
cleanup() {
  for server in "${servers[@]}"; do kill "$server" 2> /dev/null || true; wait "$server" || true; done
  rmdir "$group".* 2> /dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# 1,000 patients, of whom each Observation completes what a model reads.
python3 - "$work" <<'PY'
import datetime, json, sys
work = sys.argv[1]
now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
def observation(n):
    return {"resourceType": "Observation", "status": "final",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
            "subject": {"reference": f"Patient/bench-{n % 1000}"}, "effectiveDateTime": now,
            "valueQuantity": {"value": 0.8 + n % 50 / 50, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}}
with open(f"{work}/observations", "w") as f:
    f.writelines(json.dumps(observation(n)) + "\n" for n in range(20000))
with open(f"{work}/patients", "w") as f:
    for start in range(0, 1000, 100):
        entries = [{"resource": {"resourceType": "Patient", "id": f"bench-{n}", "gender": "female", "birthDate": "1960-01-01"},
                    "request": {"method": "PUT", "url": f"Patient/bench-{n}"}} for n in range(start, start + 100)]
        f.write(json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}) + "\n")
with open(f"{work}/searches", "w") as f:
    f.writelines(f"bench-{n % 1000}\n" for n in range(20000))
PY

serve() { # port database folder
  AUGURY_BIND=127.0.0.1:$1 AUGURY_DATA_DIR="$work/$3" AUGURY_DATABASE_URL="$2" AUGURY_LOG=error "$augury" serve &
  servers+=($!)
  for _ in $(seq 400); do if (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; then break; fi; sleep 0.05; done
  mkdir -p "$group.$1"
  echo 100000 > "$group.$1/cpu.cfs_period_us"
  echo $((1000 * share)) > "$group.$1/cpu.cfs_quota_us"
  echo $! > "$group.$1/cgroup.procs"
}
end() {
  for server in "${servers[@]}"; do kill "$server"; wait "$server" || true; done
  servers=()
  rmdir "$group".*
}
each() { # name options…: the load on all servers at once
  local name=$1 port=18405 loads=()
  shift
  for server in "${servers[@]}"; do
    "$load" --to 127.0.0.1:$port --pid "$server" --connections 16 --seconds "$seconds" "$@" > "$work/$name.$port" &
    loads+=($!)
    port=$((port + 1))
  done
  wait "${loads[@]}"
}
phase() { # servers
  local database=bench_replicas_${RANDOM}_$1 n
  psql -qc "CREATE DATABASE $database" "$postgres" > /dev/null
  for n in $(seq "$1"); do serve $((18404 + n)) "${postgres%/*}/$database" "$1"; done
  "$load" --to 127.0.0.1:18405 --pid "${servers[0]}" --connections 1 --requests 10 --seconds 60 --path /fhir --lines "$work/patients" > /dev/null
  each "write.$1" --path /fhir/Observation --lines "$work/observations"
  each "search.$1" --method GET --path '/fhir/Observation?subject=Patient/{}&_count=10' --lines "$work/searches"
  end
  psql -qc "DROP DATABASE $database" "$postgres" > /dev/null
}
phase 1
phase 2
python3 - "$work" <<'PY'
import glob, json, sys
work = sys.argv[1]
def rate(name):
    return sum(json.load(open(f))["rate"] for f in glob.glob(f"{work}/{name}.184*"))
for what in ("write", "search"):
    one, two = rate(f"{what}.1"), rate(f"{what}.2")
    print(f"{what}: one process {one:,.0f}/s, two {two:,.0f}/s = {two / one:.2f} times")
PY
