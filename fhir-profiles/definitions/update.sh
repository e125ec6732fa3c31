#!/usr/bin/env bash
# Makes the compact definitions anew from HL7's npm package. Needs npm and Python 3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
sum=$(sed -n 's/^sha256 = "\(.*\)"$/\1/p' "$here/SOURCES.toml")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent hl7.fhir.r4.examples@4.0.1
echo "$sum  hl7.fhir.r4.examples-4.0.1.tgz" | sha256sum --check --quiet
tar -xzf hl7.fhir.r4.examples-4.0.1.tgz
python3 "$here/compact.py" "$work/package"
