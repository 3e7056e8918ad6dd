#!/usr/bin/env bash
# The one place that knows QEMU's flags: boots a disk image on the machine that the options describe.
# The host program (boot/) calls it; it works by hand too. `./qemu-runner.sh --help` explains.
set -eu

usage() {
    cat <<'USAGE'
usage: qemu-runner.sh [OPTIONS] IMAGE [-- QEMU-FLAG...]

Boots the disk IMAGE in QEMU, serial console on standard input and output, no window. QEMU flags after `--` come
last, so that their -m, -smp, -cpu, -numa and -object win. IMAGE is one that `cargo run` has made:
target/strata/strata-kernel-bios.img or target/strata/strata-kernel-uefi.img. It is never written to.

  --firmware bios|uefi    SeaBIOS (default) or OVMF
  --memory SIZE           as QEMU's -m: a number of MiB, or with K, M, G, T (default 512M)
  --smp N                 CPUs (default 2; 1 with --icount)
  --cpu MODEL             as QEMU's -cpu (default max,la57=off: SMEP, SMAP, NX, 1 GiB pages, 4-level paging)
  --node SIZE[,CPUS]      a NUMA node with so much memory (0: none) and these CPUs, like 0-3; repeat for each node.
                          The sizes must add up to --memory
  --distance A,B,VALUE    the distance from node A to node B (repeat)
  --icount                one guest instruction is one TSC tick, and two runs agree
  --gdb                   stopped until gdb attaches on port 1234
  --cmdline TEXT          the kernel's command line
  --file NAME=PATH        hand the file over by fw_cfg, as opt/strata/NAME (repeat)
  --disk FILE             a virtio block device (raw; written to)
  --die-with-parent       end QEMU when the process that started this script ends
  --dry-run               print QEMU's command line instead of running it

Environment: QEMU (default qemu-system-x86_64), OVMF_CODE (the firmware file for --firmware uefi).
Exit status: QEMU's: 33 when the kernel reports success, 35 when it reports failure, 0 when the machine was reset or
switched off, 1 when QEMU could not run; 2 for bad usage of this script.
USAGE
}

die() {
    echo "qemu-runner.sh: $*" >&2
    exit 2
}

# QEMU splits option values at commas; a comma that is meant is doubled.
escape() { printf '%s' "${1//,/,,}"; }

# QEMU counts -m in MiB and an object's size in bytes: give both a unit.
with_unit() { case $1 in *[!0-9]* | 0) echo "$1" ;; *) echo "${1}M" ;; esac; }

find_ovmf() {
    local candidate
    for candidate in "${OVMF_CODE:-}" \
        /usr/share/OVMF/OVMF_CODE_4M.fd /usr/share/OVMF/OVMF_CODE.fd \
        /usr/share/edk2/x64/OVMF_CODE.4m.fd /usr/share/edk2-ovmf/x64/OVMF_CODE.fd \
        /usr/share/edk2/ovmf/OVMF_CODE.fd /usr/share/edk2-ovmf/OVMF_CODE.fd \
        /usr/share/qemu/ovmf-x86_64-code.bin /usr/share/qemu/edk2-x86_64-code.fd; do
        [ -n "$candidate" ] && [ -r "$candidate" ] && { echo "$candidate"; return; }
    done
    die "no OVMF firmware found: run ./setup.sh, or set OVMF_CODE"
}

firmware=bios memory=512M smp='' cpu='' image='' icount='' gdb='' cmdline='' die_with_parent='' dry_run=''
nodes=() distances=() files=() disks=() raw=()

while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit 0 ;;
        --icount) icount=1 ;;
        --gdb) gdb=1 ;;
        --die-with-parent) die_with_parent=1 ;;
        --dry-run) dry_run=1 ;;
        --) shift; raw=("$@"); break ;;
        --firmware | --memory | --smp | --cpu | --node | --distance | --cmdline | --file | --disk)
            [ $# -ge 2 ] || die "$1 needs a value"
            case $1 in
                --firmware) firmware=$2 ;;
                --memory) memory=$2 ;;
                --smp) smp=$2 ;;
                --cpu) cpu=$2 ;;
                --node) nodes+=("$2") ;;
                --distance) distances+=("$2") ;;
                --cmdline) cmdline=$2 ;;
                --file) files+=("$2") ;;
                --disk) disks+=("$2") ;;
            esac
            shift ;;
        -*) die "unknown option $1 (see --help)" ;;
        *) [ -z "$image" ] || die "two images: $image and $1"; image=$1 ;;
    esac
    shift
done

[ -n "$image" ] || { usage >&2; exit 2; }
[ -r "$image" ] || die "cannot read the image $image (cargo run makes it)"
qemu=${QEMU:-qemu-system-x86_64}
command -v "$qemu" >/dev/null || die "$qemu is not installed: run ./setup.sh"

# A reset is a triple fault here, so it ends the run. The loader insists on a display adapter: give it one, unseen.
flags=(-machine pc -nodefaults -vga std -display none -no-reboot
    -device isa-debug-exit,iobase=0xf4,iosize=0x04
    -chardev stdio,id=console,mux=off,signal=on -serial chardev:console)

# One instruction is one tick: no sleeping, no second thread, no clock of the host, no random seed. `rep stosb` clears
# a page in 4096 ticks and `rep stosq` in 512, hence no erms. A spinning CPU keeps the others from running: one CPU.
if [ -n "$icount" ]; then
    flags+=(-accel tcg,thread=single -icount shift=0,sleep=off -rtc base=2024-01-01,clock=vm -seed 0
        -cpu "${cpu:-max,la57=off,erms=off}" -smp "${smp:-1}")
else
    flags+=(-accel tcg,thread=multi -cpu "${cpu:-max,la57=off}" -smp "${smp:-2}")
fi

# reserve=off: a machine may have more memory than the host, as long as it does not touch it. Flags of the user's that
# describe memory must find a plain machine.
memory=$(with_unit "$memory")
flags+=(-m "$memory")
case " ${raw[*]} " in
    *" -m "* | *" -numa "* | *memory-backend*) ;;
    *) [ ${#nodes[@]} != 0 ] ||
        flags+=(-object "memory-backend-ram,id=ram,size=$memory,reserve=off" -machine memory-backend=ram) ;;
esac
for i in "${!nodes[@]}"; do
    IFS=, read -r size cpus <<<"${nodes[$i]}"
    size=$(with_unit "$size")
    node="node,nodeid=$i${cpus:+,cpus=$cpus}"
    if [ "$size" != 0 ]; then
        flags+=(-object "memory-backend-ram,id=node$i,size=$size,reserve=off")
        node+=",memdev=node$i"
    fi
    flags+=(-numa "$node")
done
for distance in "${distances[@]}"; do
    IFS=, read -r from to value <<<"$distance"
    flags+=(-numa "dist,src=$from,dst=$to,val=$value")
done

case $firmware in
    bios) ;;
    uefi)
        ovmf=$(find_ovmf) || exit 2
        flags+=(-drive "if=pflash,unit=0,format=raw,readonly=on,file=$(escape "$ovmf")") ;;
    *) die "unknown firmware $firmware: bios or uefi" ;;
esac
flags+=(-drive "if=ide,index=0,format=raw,snapshot=on,file=$(escape "$image")")

[ -z "$cmdline" ] || flags+=(-fw_cfg "name=opt/strata/cmdline,string=$(escape "$cmdline")")
for file in "${files[@]}"; do
    [ -r "${file#*=}" ] || die "cannot read ${file#*=}"
    flags+=(-fw_cfg "name=opt/strata/${file%%=*},file=$(escape "${file#*=}")")
done
for i in "${!disks[@]}"; do
    [ -r "${disks[$i]}" ] || die "cannot read the disk ${disks[$i]}"
    flags+=(-drive "if=none,id=disk$i,format=raw,file=$(escape "${disks[$i]}")" -device "virtio-blk-pci,drive=disk$i")
done
[ -z "$gdb" ] || flags+=(-S -gdb tcp:127.0.0.1:1234)

command=("$qemu" "${flags[@]}" "${raw[@]}")
if [ -n "$dry_run" ]; then
    printf '%q ' "${command[@]}"
    echo
    exit 0
fi
# QEMU does not start on a closed standard input; on an empty one it runs.
{ : 9<&0; } 2>/dev/null || exec </dev/null
if [ -n "$die_with_parent" ] && command -v setpriv >/dev/null; then
    command=(setpriv --pdeathsig TERM "${command[@]}")
fi
exec "${command[@]}"
