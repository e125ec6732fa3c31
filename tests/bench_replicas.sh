#!/usr/bin/env bash
# What a second process over one PostgreSQL brings. On one machine both take from the same processors, so each gets
# a share of its own (a control group; root), small enough that PostgreSQL and the load have what they need:
# the limit is then the process, as it is where each has a machine.
#   AUGURY_TEST_POSTGRES=postgres://…/postgres bash tests/bench_replicas.sh
# BENCH_SHARE (default 10) is the share of one processor that each gets, in percent. What is written is all scored before
# the clock stops. One process over one database and two over another take turns of some seconds, as a machine is not
# always as quick.
set -euo pipefail
cd "$(dirname "$0")/.."
postgres=${AUGURY_TEST_POSTGRES:?a PostgreSQL to make databases in}
unset AUGURY_TEST_POSTGRES
seconds=${BENCH_SECONDS:-2}
share=${BENCH_SHARE:-10}
rounds=${BENCH_ROUNDS:-12}
writes=${BENCH_WRITES:-400} # hundreds
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
databases=()
cleanup() {
  for server in "${servers[@]}"; do kill "$server" 2> /dev/null || true; wait "$server" || true; done
  for one in "${databases[@]}"; do psql -qc "DROP DATABASE $one" "$postgres" > /dev/null; done
  rmdir "$group".* 2> /dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

# Each Observation completes what models read of a patient of its own, so that none is scored together with another.
python3 - "$work" "$writes" <<'PY'
import datetime, json, sys
work, writes = sys.argv[1], int(sys.argv[2])
now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
def observation(n):
    return {"resourceType": "Observation", "status": "final",
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
            "subject": {"reference": f"Patient/bench-{n}"}, "effectiveDateTime": now,
            "valueQuantity": {"value": 0.8 + n % 50 / 50, "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}}
for port, writers, one in (18405, 1, 0), (18406, 2, 0), (18407, 2, 1):
    with open(f"{work}/observations.{port}", "w") as f:
        f.writelines(json.dumps(observation(n)) + "\n" for n in range(one, writes, writers))
with open(f"{work}/patients", "w") as f:
    for start in range(0, writes, 100):
        entries = [{"resource": {"resourceType": "Patient", "id": f"bench-{n}", "gender": "female", "birthDate": "1960-01-01"},
                    "request": {"method": "PUT", "url": f"Patient/bench-{n}"}} for n in range(start, start + 100)]
        f.write(json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}) + "\n")
with open(f"{work}/searches", "w") as f:
    f.writelines(f"bench-{n}\n" for n in range(writes))
PY

database() { # name
  local name=bench_replicas_${RANDOM}_$1
  psql -qc "CREATE DATABASE $name" "$postgres" > /dev/null
  databases+=("$name")
}
serve() { # port database folder
  AUGURY_BIND=127.0.0.1:$1 AUGURY_DATA_DIR="$work/$3" AUGURY_DATABASE_URL="${postgres%/*}/$2" AUGURY_LOG=error "$augury" serve &
  servers[$1]=$!
  for _ in $(seq 400); do if (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; then break; fi; sleep 0.05; done
  mkdir -p "$group.$1"
  # Short periods: who has had its share stands still, and whoever waits for its transaction with it.
  echo 16000 > "$group.$1/cpu.cfs_period_us"
  echo $((160 * share)) > "$group.$1/cpu.cfs_quota_us"
  echo $! > "$group.$1/cgroup.procs"
}
ticks() { # ports…: hundredths of a second of processor time
  local port fields all=0
  for port in "$@"; do
    read -ra fields < "/proc/${servers[port]}/stat"
    all=$((all + fields[13] + fields[14]))
  done
  echo "$all"
}
waiting() { curl -sf "http://127.0.0.1:$1/metrics" | grep -q '^augury_queue_waiting.* [1-9]'; }
each() { # name ports options…: the load on these servers at once; {port} stands for that of each
  local name=$1 ports=$2 loads=() port
  shift 2
  for port in $ports; do
    "$load" --to "127.0.0.1:$port" --connections 16 "${@//\{port\}/$port}" > "$work/$name.$port" &
    loads+=($!)
  done
  wait "${loads[@]}"
}
write() { # round ports…
  local round=$1 began before
  shift
  before=$(ticks "$@")
  began=$(date +%s%N)
  each "posts.$#.$round" "$*" --seconds 600 --requests $((writes / $#)) --path /fhir/Observation --lines "$work/observations.{port}"
  while waiting "$1"; do sleep 0.02; done
  echo "$(($(date +%s%N) - began)) $(($(ticks "$@") - before))" > "$work/write.$#.$round"
}
search() { # round ports…
  local round=$1
  shift
  each "search.$#.$round" "$*" --seconds "$seconds" --method GET --path '/fhir/Observation?subject=Patient/{}&_count=10' \
    --lines "$work/searches"
}

database one
serve 18405 "${databases[0]}" one
database two
serve 18406 "${databases[1]}" two
serve 18407 "${databases[1]}" two
for port in 18405 18406; do
  "$load" --to 127.0.0.1:$port --connections 1 --requests $((writes / 100)) --seconds 60 --path /fhir --lines "$work/patients" > /dev/null
done
for what in write search; do
  # The one before the first warms up.
  for round in 0 $(seq "$rounds"); do
    if [ $((round % 2)) = 0 ]; then
      "$what" "$round" 18405
      "$what" "$round" 18406 18407
    else
      "$what" "$round" 18406 18407
      "$what" "$round" 18405
    fi
  done
done
python3 - "$work" "$writes" "$rounds" "$share" <<'PY'
import glob, json, statistics, sys
work, writes, rounds, share = sys.argv[1], *(int(one) for one in sys.argv[2:])
def written(servers, round):
    return [int(one) for one in open(f"{work}/write.{servers}.{round}").read().split()]
def scored(servers, round):
    # From the first write until nothing waits to be scored.
    return writes * 1e9 / written(servers, round)[0]
def searches(servers, round):
    return sum(json.load(open(f))["rate"] for f in glob.glob(f"{work}/search.{servers}.{round}.*"))
for name, rate in ("written and scored", scored), ("searches", searches):
    one, two = ([rate(servers, n + 1) for n in range(rounds)] for servers in (1, 2))
    low, middle, high = statistics.quantiles([two / one for one, two in zip(one, two)], n=4)
    print(f"{name}: one process {statistics.median(one):,.0f}/s, two {statistics.median(two):,.0f}/s = "
          f"{sum(two) / sum(one):.2f} times (of pairs {middle:.2f}, quartiles {low:.2f} and {high:.2f})")
for name, servers in ("one process", 1), ("two processes", 2):
    took = [written(servers, n + 1) for n in range(rounds)]
    part = statistics.median(ticks * 1e11 / nanoseconds / servers / share for nanoseconds, ticks in took)
    each = statistics.median(ticks for _, ticks in took) * 1e4 / writes
    print(f"{name}: {each:,.0f} us of processor time for one written and scored, {part:.0f} % of what they had")
PY
