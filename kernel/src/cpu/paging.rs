//! The registers that paging rests on: CR3 and the page attribute table.

use mm::Pfn;
use mm::pgtable::PAT;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::registers::model_specific::Msr;
use x86_64::structures::paging::PhysFrame;

const MSR_PAT: u32 = 0x277;

/// Programs the page attribute table of this CPU. The first entry stays write-back, which is all that is mapped so far.
pub fn init_pat() {
    // SAFETY: the CPU has the register: `features` requires it.
    unsafe { Msr::new(MSR_PAT).write(PAT) };
}

/// Uses other page tables from now on; all but global translations leave the TLB, also when the root is the same: PCIDs are
/// not in use.
///
/// # Safety
/// They map what is used from now on: code, stack, data.
pub unsafe fn set_root(root: Pfn) {
    let frame = PhysFrame::containing_address(PhysAddr::new(root.byte()));
    // SAFETY: the caller's promise.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}
