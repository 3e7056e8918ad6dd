#!/usr/bin/env bash
# Installs what building, testing and running Strata needs and this machine lacks: Rust 1.96 with its source and LLVM's
# tools, QEMU, OVMF, gdb. Changes nothing when nothing is missing, and says what it does.
set -eu
cd "$(dirname "$0")"

version=1.96.0
# Debian and Ubuntu build web browsers with this toolchain; it has the standard library's source.
rust_packages="rustc-web cargo-web rust-web-src rust-web-clippy rustfmt-web rust-web-llvm lld-22 llvm-22"

say() { echo "setup.sh: $*"; }
die() {
    echo "setup.sh: $*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "not root and no sudo: run as root: $*"
    fi
}

# --- packages ---

lists_are_new=
update_lists() {
    [ -z "$lists_are_new" ] || return 1
    say "updating the package lists (apt-get update)"
    as_root apt-get update -qq && lists_are_new=1
}

knows() {
    local package
    for package in "$@"; do
        apt-cache show "$package" >/dev/null 2>&1 || return 1
    done
}

try_install() {
    say "installing $* (apt-get install)"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Installs the packages; fails when there is no apt or it does not have them. Lists that know the packages can still
# be too old for the mirror: then they are updated for a second try.
apt_install() {
    have apt-get || return 1
    knows "$@" || update_lists || return 1
    knows "$@" || return 1
    try_install "$@" || { update_lists && try_install "$@"; }
}

has_ovmf() { QEMU=true ./qemu-runner.sh --firmware uefi --dry-run qemu-runner.sh >/dev/null 2>&1; }

install_tools() {
    local missing=()
    have qemu-system-x86_64 || missing+=(qemu-system-x86)
    has_ovmf || missing+=(ovmf)
    have gdb || missing+=(gdb)
    have cc || missing+=(gcc libc6-dev)
    [ ${#missing[@]} = 0 ] && return
    apt_install "${missing[@]}" || die "cannot install ${missing[*]}: install them by hand (QEMU for x86_64, OVMF, gdb, cc)"
}

# --- the toolchain ---

# Whether the Rust under this sysroot is the one, complete.
is_complete() {
    local sysroot=$1 bin=$1/bin
    [ "$("$bin/rustc" --version 2>/dev/null | cut -d' ' -f2)" = $version ] &&
        [ -x "$bin/cargo" ] && [ -x "$bin/rustfmt" ] && [ -x "$bin/cargo-clippy" ] &&
        [ -r "$sysroot/lib/rustlib/src/rust/library/core/Cargo.toml" ]
}

# The sysroot of the Rust that a plain `cargo` here would use.
active_sysroot() { RUSTUP_AUTO_INSTALL=0 rustc --print sysroot 2>/dev/null; }

has_linker() {
    local sysroot=$1
    [ -x "$sysroot/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld" ] || have rust-lld
}

# The boot loader's build looks for LLVM's tools where rustup puts them.
link_llvm_tools() {
    local bin=$1/lib/rustlib/x86_64-unknown-linux-gnu/bin tool
    for tool in llvm-objcopy llvm-objdump; do
        [ -x "$bin/$tool" ] && continue
        [ -x "/usr/lib/llvm-22/bin/$tool" ] || return 1
        say "linking $tool into $bin"
        as_root mkdir -p "$bin"
        as_root ln -sf "/usr/lib/llvm-22/bin/$tool" "$bin/$tool"
    done
}

is_ready() { [ -n "$1" ] && is_complete "$1" && has_linker "$1" && link_llvm_tools "$1"; }

# A rustup `cargo` that comes first in PATH gets the distribution's toolchain by an override, which wins over
# rust-toolchain.toml.
use_distribution() {
    is_ready /usr || return 1
    [ "$(active_sysroot)" = /usr ] && return
    have rustup || die "$(command -v rustc) hides Rust $version of /usr/bin: put /usr/bin first in PATH"
    say "linking /usr as rustup's toolchain \`strata\` and using it in this directory"
    rustup toolchain link strata /usr && rustup override set strata >/dev/null 2>&1
}

use_rustup() {
    have rustup || return 1
    say "installing Rust $version by rustup, as rust-toolchain.toml says"
    rustup toolchain install $version --profile minimal --component rust-src --component llvm-tools \
        --component clippy --component rustfmt --target x86_64-unknown-none && is_ready "$(rustup run $version rustc --print sysroot)"
}

install_rust() {
    is_ready "$(active_sysroot)" && return
    use_distribution && return
    # shellcheck disable=SC2086 # one word a package
    if apt_install $rust_packages && use_distribution; then return; fi
    use_rustup && return
    die "no Rust $version here: install rustup, or on Debian and Ubuntu the packages $rust_packages, and try again"
}

install_rust
install_tools
say "everything is here"
