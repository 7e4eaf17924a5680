#!/bin/sh
# The tables of training/docs/downscaling.md. THERMOSCALE_DATA is the folder of real data; results go to $1.
# METHODS without amun train no network; SEEDS="0 1 2" are those of the fits; what is already in $1 is kept.
set -eu
out=${1:-downscaling_tables}
methods=${METHODS:-all}
seeds=${SEEDS:-0 1 2}
runs=training/runs
mkdir -p "$out"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

europe="$THERMOSCALE_DATA/aster_modis_europe/pairs.npz"
zhangye="$out/zhangye.npz"
python $runs/zhangye_blocks.py "$THERMOSCALE_DATA/zhangye_30m" "$zhangye"

# judge NAME PAIRS EXPERIMENT [OPTIONS]: every fold of ground, once for each seed.
judge() {
    name=$1 pairs=$2 experiment=$3
    shift 3
    for seed in $seeds; do
        result="$out/${name}_seed$seed.json"
        [ -e "$result" ] || thermoscale-train evaluate amun --pairs "$pairs" --split ground --experiment "$experiment" \
            --methods "$methods" --seed "$seed" --work "$out/fits" --out "$result" "$@" > "${result%.json}.txt"
    done
}

judge simulated_x4 "$europe" simulated --folds $runs/folds_aster_modis_europe.json
judge real "$europe" real --folds $runs/folds_aster_modis_europe.json
judge zhangye_x10 "$zhangye" simulated

python $runs/scale_invariance.py "$THERMOSCALE_DATA/norway_era5land" --methods "$methods" > "$out/norway.json"
python $runs/downscaling_report.py "$out" "$out/downscaling.html" > "$out/downscaling.md"
