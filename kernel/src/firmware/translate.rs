//! Virtual to physical addresses through the active page tables, whoever made them.
//!
//! # Invariants
//! - I1: page tables are RAM, which the direct map covers ([`mm::arch`], I1).

use core::ops::Range;

use mm::arch::layout::DIRECT_MAP;
use mm::{PAGE_SIZE, PhysAddr};
use x86_64::VirtAddr;
use x86_64::registers::control::Cr3;

const PRESENT: u64 = 1;
const HUGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The physical address behind `virt`, if it is mapped. Cost: up to four reads.
pub fn virt_to_phys(virt: VirtAddr) -> Option<PhysAddr> {
    let mut table = Cr3::read().0.start_address().as_u64();
    for level in (0..4).rev() {
        let shift = 12 + 9 * level;
        let index = virt.as_u64() >> shift & 0x1ff;
        let entry = (DIRECT_MAP + table + index * 8) as *const u64;
        // SAFETY: I1; `table` comes from CR3 or a present entry.
        let entry = unsafe { entry.read_volatile() };
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 0 || entry & HUGE != 0 && level < 3 {
            let offset_mask = (1 << shift) - 1;
            return Some(PhysAddr::new((entry & ADDRESS & !offset_mask) + (virt.as_u64() & offset_mask)));
        }
        table = entry & ADDRESS;
    }
    None
}

/// The physical pages behind the page-aligned virtual range `virt`, as (virtual, physical) pairs by page; unmapped
/// ones are left out. The kernel image is not contiguous in physical memory: use this for it.
pub fn pages(virt: Range<u64>) -> impl Iterator<Item = (VirtAddr, PhysAddr)> + Clone {
    virt.step_by(PAGE_SIZE).filter_map(|page| {
        let page = VirtAddr::new(page);
        Some((page, virt_to_phys(page)?))
    })
}
