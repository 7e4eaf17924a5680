#!/bin/sh
# The fusion tables of training/docs/method.md. THERMOSCALE_DATA is the folder of real data; results go to $1.
set -eu
out=${1:-fusion_tables}
mkdir -p "$out"
export OMP_NUM_THREADS=1

thermoscale-train evaluate iustfm --series "$THERMOSCALE_DATA/saltonsea_nir" --leave-one-date-out --methods all \
    --seed 0 --processes 2 --json --out "$out/saltonsea.json" --report "$out/saltonsea.html" > /dev/null

thermoscale-train noise-study --seeds 3 --targets 3 --processes 2 --json > "$out/noise_study.json"
