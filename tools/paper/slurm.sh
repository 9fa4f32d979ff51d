#!/bin/sh
# The full run as a Slurm array: sbatch --array=1-32 tools/paper/slurm.sh DIR [options of oneword paper]
# DIR lies on a file system that all nodes see. A task that fails or is preempted is submitted again, and goes on. At the end:
#   oneword paper -o DIR
#SBATCH --job-name=oneword-paper
#SBATCH --cpus-per-task=1
#SBATCH --mem=1G
#SBATCH --time=04:00:00
#SBATCH --requeue
dir=$1 && shift
exec "${ONEWORD:-build/oneword}" paper "$@" -q -t 1 -o "$dir" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
