#!/usr/bin/env bash
# What relc does on machines that are not at hand: builds and tests it for aarch64 Linux (emulated), and type-checks it
# for macOS, Windows and, without the command, wasm32.
#
#   tools/other-machines.sh [OUT_DIR]        # target/other-machines unless told otherwise
#
# As root on Debian 12, whose packages have a standard library for arm64 and, as source, for the others: no target is
# downloaded. Takes about twenty minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-target/other-machines}
mkdir -p "$out/fake"
dpkg --add-architecture arm64
apt-get update -qq
apt-get install -y -qq --no-install-recommends rustc-web cargo-web rust-web-src libstd-rust-web-dev:arm64 \
    gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user binutils-mingw-w64-x86-64 binutils-aarch64-linux-gnu >/dev/null
export RUSTC=/usr/bin/rustc CARGO_TARGET_DIR=$out CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_DEBUG=0

step() { printf '\n== %s\n' "$*"; }

# Static: threads hang in this emulator with a dynamic libc.
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=qemu-aarch64
arm=(--release --locked --target aarch64-unknown-linux-gnu)
relc=$out/aarch64-unknown-linux-gnu/release/relc

step "aarch64: the engine's tests"
/usr/bin/cargo test "${arm[@]}" -p relc-cpu --lib --test tiles --test convolutions --test winograd
step "aarch64: the README's first command"
/usr/bin/cargo build "${arm[@]}" -p relc-cli
for isa in neon portable; do
    RELC_ISA=$isa qemu-aarch64 "$relc" explain examples/demo/model.onnx examples/demo/images/*.png \
        --preprocess examples/demo/preprocess.toml --labels examples/demo/labels.txt --map-npy "$out/$isa.npy" | grep 'relevance of the input' | tail -1
done
# The hot loop: how many of its instructions are multiply-adds of four lanes.
step "aarch64: instructions for each multiply-add, of the tiles' innermost loops"
aarch64-linux-gnu-objdump -d --no-show-raw-insn "$relc" | python3 tools/innermost_loops.py

step "others: type-checked"
# A C compiler that only pretends is enough to check.
printf '#!/bin/bash\nwhile [ $# -gt 0 ]; do if [ "$1" = -o ]; then touch "$2"; fi; shift; done\n' >"$out/fake/cc"
printf '#!/bin/bash\nfor a in "$@"; do case "$a" in *.a) touch "$a";; esac; done\n' >"$out/fake/ar"
chmod +x "$out/fake/cc" "$out/fake/ar"
fake=$(realpath "$out/fake")
failed=0
for target in aarch64-apple-darwin x86_64-pc-windows-gnu wasm32-unknown-unknown; do
    name=${target//-/_}
    packages=(-p relc-cli)
    # In a browser there are neither files nor machine code that a program makes.
    [ "$target" = wasm32-unknown-unknown ] &&
        packages=(-p relc-onnx -p relc-passes -p relc-rules -p relc-interp -p relc-program -p relc-export)
    if env RUSTC_BOOTSTRAP=1 "CC_$name=$fake/cc" "AR_$name=$fake/ar" "RANLIB_$name=/bin/true" \
        /usr/bin/cargo check --locked -q "${packages[@]}" -Zbuild-std=std,panic_abort --target "$target" 2>"$out/$target.log"; then
        echo "$target: checks"
    else
        echo "$target: fails"
        grep -E '^error' -A6 "$out/$target.log" | head -20
        failed=1
    fi
done
exit $failed
