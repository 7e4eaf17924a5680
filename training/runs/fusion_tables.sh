#!/bin/sh
# The fusion tables of training/docs/method.md. THERMOSCALE_DATA is the folder of real data; results go to $1.
# METHODS without iustfm_* train no network: METHODS=adaptive,bilinear repeats some rows in a fraction of the time.
set -eu
out=${1:-fusion_tables}
methods=${METHODS:-all}
mkdir -p "$out"
export OMP_NUM_THREADS=1

# A dated real series, interior dates.
thermoscale-train evaluate iustfm --series "$THERMOSCALE_DATA/saltonsea_nir" --leave-one-date-out --methods "$methods" \
    --seed 0 --processes 2 --out "$out/saltonsea.json" --report "$out/saltonsea.html" --report-method adaptive \
    > "$out/saltonsea.txt"

# Two library dates of unknown order: aster_modis_triple (145-173-176) and six more grounds of aster_modis_europe.
# As they are, and with coarse scenes that are the cell means of the fine ones.
for kind in real simulated; do
    python training/runs/two_library_dates.py "$THERMOSCALE_DATA/aster_modis_europe/pairs.npz" "$out/$kind" \
        $([ $kind = real ] || echo --simulated)
    for series in "$out/$kind"/*.npz; do
        thermoscale-train evaluate iustfm --series "$series" --targets undated --methods "$methods" --processes 1 \
            --out "${series%.npz}.json" > "${series%.npz}.txt"
    done
done

# Synthetic worlds, three seeds; one file for each kind of world.
for world in yearly classes smooth mixed shifted; do
    thermoscale-train fusion-study --worlds $world --seeds 3 --methods "$methods" --processes 2 \
        --out "$out/study_$world.json" > "$out/study_$world.txt"
done

# RatioNet against the closed form.
thermoscale-train noise-study --seeds 3 --targets 3 --processes 2 --json > "$out/noise_study.json"
