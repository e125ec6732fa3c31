#!/usr/bin/env bash
# Sets up what the tests need and runs all of them. Needs the Rust toolchain, and Debian's package
# manager for PostgreSQL (installed where it is missing and may be; else named).
set -euo pipefail
cd "$(dirname "$0")/.."

cc --version > /dev/null 2>&1 || need_compiler=1
postgres_bin() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1; }
missing=()
[ -z "${need_compiler:-}" ] || missing+=(gcc libc6-dev)
[ -x "$(postgres_bin)/initdb" ] || missing+=(postgresql)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then as_root=(); elif sudo -n true 2>/dev/null; then as_root=(sudo -n); else
    echo "These Debian packages are needed and may not be installed from here: ${missing[*]}" >&2
    exit 1
  fi
  "${as_root[@]}" apt-get update -q
  # No cluster of Debian's own is wanted: the tests start theirs.
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -qy --no-install-recommends "${missing[@]}"
fi

work=$(mktemp -d)
chmod 755 "$work"
postgres=$(postgres_bin)
run_postgres() { # PostgreSQL refuses to run as root
  if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}
cleanup() {
  run_postgres "$postgres/pg_ctl" -D "$work/postgres" -m immediate stop > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/postgres"
if [ "$(id -u)" = 0 ]; then chown postgres "$work/postgres"; fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null || echo $((20000 + RANDOM % 20000)))
run_postgres "$postgres/initdb" -D "$work/postgres" -U augury -A trust --no-sync > /dev/null
run_postgres "$postgres/pg_ctl" -D "$work/postgres" -w -l "$work/postgres/log" \
  -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$work/postgres -c max_connections=300" start > /dev/null
export AUGURY_TEST_POSTGRES="postgres://augury@127.0.0.1:$port/postgres"

echo "== format"
cargo fmt --all --check
echo "== files"
long=$(git ls-files '*.rs' | xargs wc -l | awk '$2 != "total" && $1 > 600 { print $2 ": " $1 " lines" }')
[ -z "$long" ] || { echo "files over 600 lines:"; echo "$long"; exit 1; }
echo "== clippy"
cargo clippy --workspace --all-targets --quiet -- -D warnings
echo "== build"
cargo build --workspace --bins --quiet
echo "== tests"
cargo test --workspace --quiet 2>&1 | tee "$work/tests"
awk '/^test result:/ { passed += $4; failed += $6 } END { print passed " passed, " failed " failed"; exit failed > 0 || passed == 0 }' "$work/tests"
