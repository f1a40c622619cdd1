#!/usr/bin/env bash
# Curate INPUT into OUTPUT on the nodes of a Slurm allocation, by a Ray cluster that lives as long as the job.
# Usage: sbatch --nodes=4 --cpus-per-task=32 infra/slurm.sh INPUT OUTPUT [options of `videoauteur curate`]
# Submit from the repository's root, with `videoauteur` installed in .venv (or name its python in PYTHON).
# INPUT, OUTPUT, the repository and the environment are at the same path on every node.
# A job that was killed or ran out of time continues when it is submitted again: the memo is in OUTPUT.
#SBATCH --job-name=videoauteur
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --signal=B:TERM@120
set -euo pipefail

python="${PYTHON:-$PWD/.venv/bin/python}"
ray="$(dirname "$python")/ray"
port=$((20000 + SLURM_JOB_ID % 10000))
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head="${nodes[0]}"
export RAY_ADDRESS="$head:$port"
# Proxies know nothing of the nodes.
NO_PROXY="$(IFS=,; echo "${nodes[*]}"),localhost,127.0.0.1${NO_PROXY:+,$NO_PROXY}"
export NO_PROXY no_proxy="$NO_PROXY"
cpus=(--num-cpus "${SLURM_CPUS_PER_TASK:-1}")

srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  "$ray" start --head --block --port="$port" --node-ip-address="$head" --disable-usage-stats "${cpus[@]}" &
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for node in "${nodes[@]:1}"; do
  srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap \
    "$ray" start --block --address="$RAY_ADDRESS" --node-ip-address="$node" --disable-usage-stats "${cpus[@]}" &
done

# The job runs on the head's node, beside Ray, once all nodes have joined.
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap "$python" - "${#nodes[@]}" <<'WAIT'
import sys, time
import ray

for attempt in range(120):
    try:
        ray.init("auto", logging_level="ERROR", log_to_driver=False, ignore_reinit_error=True)
        if sum(node["Alive"] for node in ray.nodes()) >= int(sys.argv[1]):
            sys.exit()
    except ConnectionError:
        pass
    time.sleep(1)
sys.exit("videoauteur: the nodes did not join within two minutes")
WAIT
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  "$python" -m pipeline curate "$@" --set run.ray_address=auto
