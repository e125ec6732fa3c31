#!/usr/bin/env bash
# Subscriptions under chaos: three processes, PostgreSQL, Redis, the network of one process and the subscriber
# fail by seeded chance while much is written. Prints what happened; fails if anything was lost or out of order.
#   CHAOS_SEED (1)  CHAOS_EVENTS (100000)  CHAOS_SUBSCRIPTIONS (20)  CHAOS_PROFILE (release; or dev)
#   CHAOS_LOGS: a folder where the logs of the processes stay
# Needs what tests/run.sh installs; as root, one process is in a network namespace that is cut off (else it is paused).
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${CHAOS_PROFILE:-release}
folder=$profile
[ "$profile" != dev ] || folder=debug
cargo build --quiet --profile "$profile" -p augury -p augury-tests --bins
AUGURY_BIN=${AUGURY_BIN:-$PWD/target/$folder/augury} exec "target/$folder/chaos" \
  --seed "${CHAOS_SEED:-1}" --events "${CHAOS_EVENTS:-100000}" --subscriptions "${CHAOS_SUBSCRIPTIONS:-20}"
