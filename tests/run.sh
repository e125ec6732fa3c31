#!/usr/bin/env bash
# Sets up what the tests need and runs all of them. Needs the Rust toolchain, and Debian's package
# manager for a C compiler and PostgreSQL (installed where they are missing and may be; else named).
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cargo > /dev/null || { echo "cargo is needed: https://rustup.rs (the version is in rust-toolchain.toml)" >&2; exit 1; }
postgres_bin() { ls -d /usr/lib/postgresql/*/bin 2> /dev/null | sort -V | tail -n 1; }
missing=()
command -v cc > /dev/null || missing+=(gcc libc6-dev)
[ -x "$(postgres_bin)/initdb" ] || missing+=(postgresql)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then as_root=(); elif sudo -n true 2> /dev/null; then as_root=(sudo -n); else
    echo "These Debian packages are needed and may not be installed from here: ${missing[*]}" >&2
    exit 1
  fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
fi

work=$(mktemp -d)
chmod 755 "$work"
postgres=$(postgres_bin)
as_postgres() { # PostgreSQL refuses to run as root, and its user may not look into every checkout.
  if [ "$(id -u)" = 0 ]; then (cd "$work" && runuser -u postgres -- "$@"); else "$@"; fi
}
clean_up() {
  as_postgres "$postgres/pg_ctl" -D "$work/postgres" -m immediate stop > /dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT
mkdir "$work/postgres"
if [ "$(id -u)" = 0 ]; then chown postgres "$work/postgres"; fi
as_postgres "$postgres/initdb" -D "$work/postgres" -U augury -A trust -E UTF8 --locale=C.UTF-8 --no-sync > /dev/null
for attempt in 1 2 3 4 5; do
  port=$((20000 + RANDOM % 12000)) # below the ports that Linux gives away by itself
  as_postgres "$postgres/pg_ctl" -D "$work/postgres" -w -l "$work/postgres/log" \
    -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$work/postgres -c max_connections=300 -c fsync=off" \
    start > /dev/null && break
  [ "$attempt" -lt 5 ] || { cat "$work/postgres/log" >&2; exit 1; }
done
export AUGURY_TEST_POSTGRES="postgres://augury@127.0.0.1:$port/postgres"

echo "== files"
long=$(git ls-files -z '*.rs' | xargs -0 -r wc -l | awk '$2 != "total" && $1 > 600 { print $2 ": " $1 " lines" }')
[ -z "$long" ] || { printf 'over 600 lines:\n%s\n' "$long"; exit 1; }
echo "== format"
cargo fmt --all --check
echo "== clippy"
cargo clippy --workspace --all-targets --quiet -- -D warnings
echo "== build"
cargo build --workspace --bins --quiet # some tests start the server itself
echo "== tests"
ended=0
cargo test --workspace --no-fail-fast --quiet 2>&1 | tee "$work/tests" || ended=1
awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0 " passed, " failed + 0 " failed"; exit passed == 0 }' "$work/tests"
exit $ended
