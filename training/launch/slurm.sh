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
#SBATCH --signal=B:USR1@300
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

again=0
soon_over() {
    # five minutes before the end: the run leaves a checkpoint, and the next job goes on from it
    again=1
    scancel --signal=USR1 "$SLURM_JOB_ID"
}
trap soon_over USR1
trap : TERM # of scancel, which the run hears too: it leaves a checkpoint, and the job ends
while kill -0 "$run" 2> /dev/null; do
    wait "$run" # which a signal ends early
done
wait "$run"
code=$?
# 130: asked to stop
[ "$again" = 1 ] && [ "$code" = 130 ] && exec scontrol requeue "$SLURM_JOB_ID"
exit "$code"
