#!/usr/bin/env bash
# Run the tests whose marks match $2 with the environment in $1; further arguments go to pytest.
set -euo pipefail
run=$1
marks=$2
shift 2

bash scripts/test_services.sh
# A GPU's tests are deselected where there is none: a skip would look like a pass.
"$run/python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' || marks="${marks:+$marks and }not cuda"
cores=$(nproc)
# One thread a test process: two that fight for the same cores take longer than one.
export OMP_NUM_THREADS=1
exec "$run/pytest" -n "$cores" --dist loadgroup -m "$marks" "$@"
