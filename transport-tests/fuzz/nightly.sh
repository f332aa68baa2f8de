#!/usr/bin/env bash
# Runs the fuzz targets, minimises what they found, and holds their coverage against coverage.toml. See docs/fuzzing.md.
#
#   nightly.sh [--accept] [SECONDS] [TARGET..]
#
# SECONDS of CPU for each target (300); all targets unless some are named. --accept commits to what was reached: it writes the
# minimised corpora and coverage.toml, for a reviewer to look at.
# Exit: 0 all well; 1 an input failed; 2 coverage fell; 3 something is missing or misspelt; 4 the targets do not build.
# FUZZ_SANITIZER=address builds with a sanitizer; CARGO_TARGET_DIR says where to build.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
readonly TOLERANCE=3 # per cent of the edges that may be missing: chance, and another compiler's idea of an edge
readonly MAX_FILES=150 MAX_BYTES=300000 # of one committed corpus, better
readonly MOST_FILES=390 # and at most

die() {
    echo "nightly.sh: $2" >&2
    exit "$1"
}

accept=no seconds=300
if [ "${1:-}" = --accept ]; then accept=yes && shift; fi
if [[ "${1:-}" =~ ^[0-9]+$ ]]; then seconds=$1 && shift; fi
all=$(cd fuzz_targets && ls | sed 's/\.rs$//')
targets=${*:-$all}
for target in $targets; do
    [ -f "fuzz_targets/$target.rs" ] || die 3 "no target $target; there are: $(echo $all)"
done

command -v cargo >/dev/null || die 3 "no cargo: install Rust from https://rustup.rs"
cargo +nightly --version >/dev/null 2>&1 || die 3 "no nightly compiler: rustup toolchain install nightly --profile minimal"
cargo fuzz --version >/dev/null 2>&1 || die 3 "no cargo-fuzz: cargo install cargo-fuzz"
command -v c++ >/dev/null || die 3 "no C++ compiler (libFuzzer is C++): apt-get install g++"

host=$(rustc -vV | sed -n 's/^host: //p')
build=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
work=$PWD/work
mkdir -p "$work" artifacts
echo "building ($(cargo +nightly --version))"
RUSTC_WRAPPER=$PWD/rustc.sh cargo +nightly fuzz build --fuzz-dir . --sanitizer "${FUZZ_SANITIZER:-none}" --target-dir "$build" >"$work/build.log" 2>&1 || {
    tail -40 "$work/build.log"
    die 4 "the targets do not build"
}

# Edges that a folder of inputs reaches.
edges() {
    "$build/$host/release/$1" -runs=0 -artifact_prefix="$work/$1/" "$2" 2>&1 | sed -n 's/.* cov: \([0-9]*\) .*/\1/p' | tail -1
}

# The inputs of $3.. that together reach all they reach, few and small, into $2.
minimise() {
    local target=$1 into=$2 counters
    shift 2
    for counters in 1 0; do
        rm -rf "$into" && mkdir -p "$into"
        "$build/$host/release/$target" -merge=1 -set_cover_merge=1 -use_counters=$counters \
            -artifact_prefix="$work/$target/" "$into" "$@" >"$work/$target.merge.log" 2>&1
        # How often an edge is taken matters too, as long as there is room for it.
        [ "$(ls "$into" | wc -l)" -le $MAX_FILES ] && [ "$(cat "$into"/* | wc -c)" -le $MAX_BYTES ] && return
    done
    # Still too many: the smallest go.
    (cd "$into" && ls -S | tail -n +$((MOST_FILES + 1)) | xargs -r rm)
}

# Runs one target for its time; 0 unless an input failed. Sets `cpu` and `runs`.
fuzz() {
    local target=$1 left slice code=0 TIMEFORMAT='%U %S'
    cpu=0 runs=0
    while left=$((seconds - ${cpu%.*})) && [ "$left" -gt 0 ]; do
        { time "$build/$host/release/$target" -max_total_time="$left" -timeout=25 -rss_limit_mb=2048 -print_final_stats=1 \
            -artifact_prefix="artifacts/$target/" "$work/$target/found" "corpus/$target" >"$work/$target.log" 2>&1; } \
            2>"$work/$target.time" || code=$?
        slice=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")
        runs=$((runs + ${slice:-0}))
        cpu=$(awk -v so_far="$cpu" 'END { print so_far + $1 + $2 }' "$work/$target.time")
        [ "$code" -eq 0 ] || return 1
    done
}

# An input that failed: the smallest one like it, and what to do with it.
report_crash() {
    local target=$1 input smaller
    input=$(ls -t "artifacts/$target"/* 2>/dev/null | head -1)
    if [ -z "$input" ]; then
        tail -20 "$work/$target.log"
        return
    fi
    smaller=artifacts/$target/minimised-$(basename "$input")
    "$build/$host/release/$target" -minimize_crash=1 -max_total_time=30 -exact_artifact_path="$smaller" "$input" \
        >"$work/$target.minimise.log" 2>&1
    [ -f "$smaller" ] || smaller=$input
    grep -a -A2 -m1 'panicked at\|ERROR: libFuzzer' "$work/$target.log"
    echo "  replay: cargo run -p transport-tests --bin fuzz-input -- replay $target $PWD/$smaller"
}

crashed=0 fell=0
printf '%-14s %7s %10s %8s %7s %7s %7s  %s\n' target cpu/s runs runs/s edges before inputs verdict
for target in $targets; do
    mkdir -p "$work/$target/found" "artifacts/$target" "corpus/$target"
    verdict=ok
    fuzz "$target" || { verdict=FAILED && crashed=1; }
    minimise "$target" "$work/$target/minimised" "corpus/$target" "$work/$target/found"
    now=$(edges "$target" "$work/$target/minimised")
    before=$(sed -n "/^\[$target\]/,/^\[/s/^edges = //p" coverage.toml 2>/dev/null)
    if [ "$((${now:-0} * 100))" -lt "$((${before:-0} * (100 - TOLERANCE)))" ]; then
        fell=1
        [ "$verdict" = ok ] && verdict="COVERAGE FELL"
    fi
    rate=$(awk -v runs="$runs" -v cpu="$cpu" 'BEGIN { printf "%d", (cpu > 0 ? runs / cpu : 0) }')
    inputs=$(ls "$work/$target/minimised" | wc -l)
    printf '%-14s %7.0f %10d %8d %7d %7s %7d  %s\n' "$target" "$cpu" "$runs" "$rate" "${now:-0}" "${before:--}" "$inputs" "$verdict"
    [ "$verdict" != FAILED ] || report_crash "$target"
    if [ $accept = yes ] && [ "$verdict" != FAILED ]; then
        rm -rf "corpus/$target" && cp -r "$work/$target/minimised" "corpus/$target"
        printf '[%s]\nedges = %d\n' "$target" "$now" >"$work/$target.toml"
    fi
done

if [ $accept = yes ]; then
    # Targets that were not run keep what they had.
    for target in $all; do
        [ -f "$work/$target.toml" ] || sed -n "/^\[$target\]/,/^edges/p" coverage.toml >"$work/$target.toml"
    done
    {
        echo "# Edges that the committed corpora reach; nightly.sh fails when a run ends more than $TOLERANCE % below."
        for target in $all; do
            echo && cat "$work/$target.toml"
        done
    } >"$work/coverage.toml"
    mv "$work/coverage.toml" coverage.toml
    rm -f "$work"/*.toml
fi
[ $crashed -eq 0 ] || exit 1
[ $fell -eq 0 ] || exit 2
