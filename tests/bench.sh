#!/usr/bin/env bash
# Augury beside a bare program (tests/src/bin/bare.rs) in the same run, on this machine.
# Prints each rate, the server's CPU time a request, and the ratio to the bare program.
#   bash tests/bench.sh [FOLDER of FHIR transaction Bundles]
# With AUGURY_TEST_POSTGRES=postgres://… the bundles are also posted to a server on PostgreSQL.
set -euo pipefail
cd "$(dirname "$0")/.."
postgres=${AUGURY_TEST_POSTGRES:-}
unset AUGURY_TEST_POSTGRES
seconds=${BENCH_SECONDS:-5}
cargo build --release --quiet -p augury -p augury-tests --bins
out=${CARGO_TARGET_DIR:-target}/release
work=$(mktemp -d)
pids=()
cleanup() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; rm -rf "$work"; }
trap cleanup EXIT

python3 - "$work" <<'PY'
import json, sys, datetime
work = sys.argv[1]
now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
with open(f"{work}/patients", "w") as f:
    for start in range(0, 1000, 100):
        f.write(json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"resource": {"resourceType": "Patient", "id": f"bench-{n}", "gender": "female", "birthDate": "1961-04-05"},
             "request": {"method": "PUT", "url": f"Patient/bench-{n}"}} for n in range(start, start + 100)]}) + "\n")
with open(f"{work}/observations", "w") as f:
    for n in range(20000):
        f.write(json.dumps({
            "resourceType": "Observation", "status": "final",
            "identifier": [{"system": "https://lab.example/observations", "value": f"{n:08d}"}],
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs", "display": "Vital Signs"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9", "display": "Blood pressure panel with all children optional"}], "text": "Blood pressure"},
            "subject": {"reference": f"Patient/bench-{n % 1000}"},
            "effectiveDateTime": now, "issued": now,
            "performer": [{"reference": "Practitioner/nurse-1", "display": "A Nurse"}],
            "component": [
                {"code": {"coding": [{"system": "http://loinc.org", "code": "8480-6", "display": "Systolic blood pressure"}]},
                 "valueQuantity": {"value": 110 + n % 50, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}},
                {"code": {"coding": [{"system": "http://loinc.org", "code": "8462-4", "display": "Diastolic blood pressure"}]},
                 "valueQuantity": {"value": 65 + n % 25, "unit": "mmHg", "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}}]}) + "\n")
PY

wait_for() { for _ in $(seq 200); do if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return; fi; sleep 0.05; done; echo "no server on $1" >&2; exit 1; }
load() { case " $* " in *" --seconds "*) "$out/load" "$@" ;; *) "$out/load" --seconds "$seconds" "$@" ;; esac; }
show() { python3 tests/bench_line.py "$@"; }

"$out/bare" 127.0.0.1:18401 "$work/bare.db" & bare=$!; pids+=("$bare")
AUGURY_BIND=127.0.0.1:18402 AUGURY_DATA_DIR="$work" AUGURY_LOG=warn "$out/augury" serve & augury=$!; pids+=("$augury")
wait_for 18401; wait_for 18402
sleep 1
echo "idle: augury resident memory $(awk '/VmRSS/{print int($2/1024)}' "/proc/$augury/status") MB"
load --to 127.0.0.1:18402 --path /fhir --lines "$work/patients" --requests 10 > /dev/null

for c in 16 64; do
  b=$(load --to 127.0.0.1:18401 --path /fhir/Observation --lines "$work/observations" --connections $c --pid $bare --locations "$work/at.bare")
  a=$(load --to 127.0.0.1:18402 --path /fhir/Observation --lines "$work/observations" --connections $c --pid $augury --locations "$work/at.augury")
  show "bare: POST Observation, $c connections" "$b"
  show "augury: POST Observation, $c connections" "$a" "$b"
  sleep 2
done
sed -i 's/^"//' "$work/at.bare"
sed -E 's#^https?://[^/]+##; s#/_history/.*##' "$work/at.augury" > "$work/get.augury"
for c in 16 64; do
  b=$(load --to 127.0.0.1:18401 --method GET --path '{}' --lines "$work/at.bare" --connections $c --pid $bare)
  a=$(load --to 127.0.0.1:18402 --method GET --path '{}' --lines "$work/get.augury" --connections $c --pid $augury)
  show "bare: GET by id, $c connections" "$b"
  show "augury: GET by id, $c connections" "$a" "$b"
done

"$out/augury" generate --patients 2000 --seed 7 -o "$work/generated.ndjson"
items=$(python3 -c 'import json,sys; print(sum(len(json.loads(l)["entry"]) for l in open(sys.argv[1]))/2000)' "$work/generated.ndjson")
a=$(load --to 127.0.0.1:18402 --path /fhir --lines "$work/generated.ndjson" --connections 4 --requests 2000 --seconds 60 --items "$items" --pid $augury)
show "augury: generated patients, 4 connections" "$a"

if [ $# -gt 0 ]; then
  python3 - "$1" "$work/bundles" <<'PY'
import json, pathlib, sys
with open(sys.argv[2], "w") as f:
    for p in sorted(pathlib.Path(sys.argv[1]).rglob("*.json")):
        b = json.loads(p.read_text())
        if b.get("type") == "transaction": f.write(json.dumps(b, separators=(",", ":")) + "\n")
PY
  count=$(wc -l < "$work/bundles")
  items=$(python3 -c 'import json,sys; l=[len(json.loads(x)["entry"]) for x in open(sys.argv[1])]; print(sum(l)/len(l))' "$work/bundles")
  a=$(load --to 127.0.0.1:18402 --path /fhir --lines "$work/bundles" --connections 2 --requests $((count * 5)) --seconds 60 --items "$items" --pid $augury)
  show "augury, SQLite: patient bundles, 2 connections" "$a"
  if [ -n "$postgres" ]; then
    AUGURY_BIND=127.0.0.1:18403 AUGURY_DATA_DIR="$work/pg" AUGURY_LOG=warn AUGURY_DATABASE_URL=$postgres "$out/augury" serve & pg=$!; pids+=("$pg")
    wait_for 18403; sleep 1
    a=$(load --to 127.0.0.1:18403 --path /fhir --lines "$work/bundles" --connections 2 --requests $((count * 5)) --seconds 60 --items "$items" --pid $pg)
    show "augury, PostgreSQL: patient bundles, 2 connections" "$a"
  fi
fi

# From the write of an Observation to its RiskAssessment in a search, at 200 a second.
python3 - "$work/generated.ndjson" "$work/creatinines" <<'PY'
import datetime, json, sys
now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
with open(sys.argv[2], "w") as f:
    for line in open(sys.argv[1]):
        entries = [entry["resource"] for entry in json.loads(line)["entry"]]
        creatinine = next((r for r in entries if r["id"].endswith("-creatinine")), None)
        if creatinine:
            del creatinine["id"]
            f.write(json.dumps(creatinine | {"effectiveDateTime": now}) + "\n")
PY
a=$(load --to 127.0.0.1:18402 --path /fhir/Observation --lines "$work/creatinines" --connections 32 --rate 200 --seconds 10 --requests 1500 \
  --then '/fhir/RiskAssessment?patient={}' --pid $augury)
show "augury: write to RiskAssessment, 200/s" "$a"

# Start to ready, on the store just filled.
kill "$augury"; wait "$augury" 2>/dev/null || true
began=$(date +%s%N)
AUGURY_BIND=127.0.0.1:18402 AUGURY_DATA_DIR="$work" AUGURY_LOG=warn "$out/augury" serve & augury=$!; pids+=("$augury")
until [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:18402/health/ready)" = 200 ]; do sleep 0.005; done
echo "start to ready on the filled store: $((($(date +%s%N) - began) / 1000000)) ms"
kill "$augury"; wait "$augury" 2>/dev/null || true

AUGURY_BIND=127.0.0.1:18402 AUGURY_DATA_DIR="$work/fresh" AUGURY_LOG=warn "$out/augury" serve & augury=$!; pids+=("$augury")
wait_for 18402
load --to 127.0.0.1:18402 --path /fhir --lines "$work/patients" --requests 10 > /dev/null
a=$(load --to 127.0.0.1:18402 --path /fhir/Observation --lines "$work/observations" --connections 16 --requests 100000 --seconds 120 --pid $augury)
show "augury: 100,000 Observations on a new store" "$a"

# `score` by the number of patients, on one core; the disk is not what is measured.
one=$("$out/augury" models list | grep -c '\*')
for n in 1000 10000 100000; do
  "$out/augury" generate --patients $n --seed 11 -o "$work/many.ndjson"
  AUGURY_LOG=warn taskset -c 0 "$out/augury" score "$work/many.ndjson" -o /dev/null 2> "$work/said" || { cat "$work/said" >&2; exit 1; }
  awk -v models="$one" '{ n = $1; for (i = 1; i < NF; i++) if ($i == "in") t[++k] = $(i + 1)
    printf "score: %7d patients  read %6.1f us a patient  scored %6.1f us a patient  %8.0f results/s\n", n, t[1] * 1e6 / n, t[2] * 1e6 / n, n * models / t[2] }' "$work/said"
done
