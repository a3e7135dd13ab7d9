#!/usr/bin/env bash
# The command of the development cluster, with these arguments. TRIPTYCH_CLUSTER names it; by default it is the one
# beside the checkout. `tools/cluster.sh exists` ends with 0 if there is one.
set -euo pipefail
cd "$(dirname "$0")/.."

command=${TRIPTYCH_CLUSTER:-../shared/cluster/cluster}
if [[ ${1:-} == exists ]]; then
    [[ -x $command ]]
    exit
fi
if [[ ! -x $command ]]; then
    echo "no development cluster at $command: set TRIPTYCH_CLUSTER to its command, or KUBECONFIG for another cluster" >&2
    exit 1
fi
exec "$command" "$@"
