#!/usr/bin/env bash
# Runs every fuzz target for so many seconds (60): any panic, hang or broken promise ends it, with the
# input in fhir-profiles/fuzz/artifacts. Needs a nightly toolchain and `cargo install cargo-fuzz`.
set -euo pipefail
cd "$(dirname "$0")/../fhir-profiles"
seconds=${1:-60}
shift || true

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cd fuzz/fuzz_targets && basename -s .rs -- *.rs)
# The code has no unsafe block: without a sanitizer there are many times more runs a second.
cargo +nightly fuzz build --sanitizer none
failed=()
for target in "${targets[@]}"; do
  echo "== $target, $seconds s"
  mkdir -p "fuzz/corpus/$target"
  cargo +nightly fuzz run --sanitizer none "$target" "fuzz/corpus/$target" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=4096 -max_len=16384 -print_final_stats=1 -verbosity=0 ||
    failed+=("$target")
done
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
