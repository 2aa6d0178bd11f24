#!/bin/bash
# a SLURM job on several machines, which saves before its time is up and goes on in the next job
#     trefoil launch two-nodes -o two-nodes.yaml
#     sbatch slurm.sh my-recipe.yaml
#SBATCH --job-name=trefoil
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

set -u
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=240 # seconds that a checkpoint may take
gpus=8 # of one machine
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun --kill-on-bad-exit=1 python -m trefoil.launch \
    --config_file two-nodes.yaml --num_machines "$SLURM_NNODES" --num_processes $((SLURM_NNODES * gpus)) \
    --rdzv_backend c10d --main_process_ip "$head" --main_process_port $((20000 + SLURM_JOB_ID % 10000)) \
    --max_restarts 3 -m trefoil train "$@" &
run=$!

requeued=0
stop() {
    # five minutes before the end: the run leaves a checkpoint, and the next job goes on from it
    requeued=1
    scancel --signal=TERM "$SLURM_JOB_ID"
}
trap stop TERM
wait "$run"
code=$?
if [ "$requeued" = 1 ]; then
    wait "$run"
    code=$?
    # 130: asked to stop
    [ "$code" = 130 ] && exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
