#!/usr/bin/env bash
# Curate INPUT into OUTPUT as a job on a running Ray cluster.
# Usage: infra/ray-job.sh INPUT OUTPUT [options of `videoauteur curate`]
# RAY_API_SERVER_ADDRESS names the cluster's dashboard, http://127.0.0.1:8265 by default.
set -euo pipefail
cd "$(dirname "$0")/.."
export RAY_API_SERVER_ADDRESS="${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}"
# Large and local things stay at home; the job needs the code folders only.
exec ray job submit --working-dir . \
  --runtime-env-json '{"excludes": [".git", ".venv", "demo", "tests", "docs", "benchmarks"]}' \
  -- python -m pipeline curate "$@"
