//! Translations leave the TLBs of all CPUs (Linux: `flush_tlb_kernel_range`).

use mm::pgtable::{LocalTlb, Tlb, VirtRange};

use crate::cpu::call;

/// The TLBs of all CPUs that run: for the kernel's half, which all of them use. One interrupt to each CPU for a range.
///
/// To be flushed with no spin lock held: another CPU may wait for it with interrupts off.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllTlbs;

impl Tlb for AllTlbs {
    fn flush(&mut self, range: VirtRange) {
        call::on_all(&|| LocalTlb.flush(range));
    }
}
