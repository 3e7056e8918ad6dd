//! What Linux 6.1 made of QEMU's tables on some machines: input and output of its boot. Facts, printed by a script from
//! the reference boots.

mod described;
mod of_qemu;

use super::Machine;

/// All of them.
pub(super) fn machines() -> impl Iterator<Item = &'static Machine> {
    of_qemu::MACHINES.iter().chain(described::MACHINES)
}
