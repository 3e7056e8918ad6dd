//! Recounting an address space.

use super::frame;
use super::{Backing, Mm};
use crate::addr::PAGE_SIZE;
use crate::pgtable::{EntryFlags, VirtRange};
use crate::vma::VmFlags;

impl<B: Backing> Mm<B> {
    /// Recounts the areas, the pages and the tables: I1 to I4. Takes time in the number of each.
    ///
    /// # Panics
    /// When something does not add up.
    pub fn validate(&self) {
        self.areas.validate();
        let (mut total_pages, mut before) = (0, None);
        for vma in self.areas.iter() {
            total_pages += vma.range().len_bytes() / PAGE_SIZE as u64;
            if let Some((end, flags)) = before {
                assert!(end != vma.start() || flags != vma.flags(), "{vma:?} is like the area before it");
            }
            before = Some((vma.end(), vma.flags()));
        }
        assert_eq!(total_pages, self.total_pages, "pages of all areas");
        assert_eq!(self.tables.count_tables(VirtRange::USER), self.nr_tables, "page tables");
        assert_eq!(self.count_leaves(), self.nr_anon_pages, "anonymous pages");
    }

    fn count_leaves(&self) -> u64 {
        let (mut nr_anon_pages, machine) = (0, self.tables.machine());
        self.tables.for_each_user_entry(|addr, entry| {
            let vma = self.areas.lookup(addr.as_u64());
            let flags = vma.map_or(VmFlags::empty(), |vma| vma.flags());
            assert!(vma.is_some(), "{addr:?} is mapped outside of all areas");
            let writable = entry.is_present() && entry.has(EntryFlags::WRITABLE);
            let executable = entry.is_present() && !entry.has(EntryFlags::NO_EXECUTE);
            assert!(!writable || flags.contains(VmFlags::WRITE), "{addr:?} is writable in {vma:?}");
            assert!(!executable || flags.contains(VmFlags::EXEC), "{addr:?} is executable in {vma:?}");
            assert!(!entry.is_present() || flags.intersects(VmFlags::ACCESS), "{addr:?} in {vma:?}");
            if entry.has(EntryFlags::SPECIAL) {
                assert!(!writable && entry.pfn() == self.zero_pfn, "{addr:?} maps {entry:?}");
            } else {
                assert_ne!(frame::mapcount(entry, machine), 0, "{addr:?} maps a page that counts no mapping");
                nr_anon_pages += 1;
            }
        });
        nr_anon_pages
    }
}
