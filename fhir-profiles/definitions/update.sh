#!/usr/bin/env bash
# Makes the compact definitions anew from HL7's npm package.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack --silent hl7.fhir.r4.examples@4.0.1
tar -xzf hl7.fhir.r4.examples-4.0.1.tgz
python3 "$here/compact.py" "$work/package"
