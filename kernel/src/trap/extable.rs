//! The exception table: instructions of the kernel that may fault, and where to go on then.
//!
//! An entry is two 32-bit distances, each from the entry's own field: to the instruction, and to the fix-up. The
//! [`ex_table!`](crate::ex_table) text in inline assembly adds one.
//!
//! # Invariants
//! - I1: the linker script gathers the entries between `__ex_table_start` and `__ex_table_end`, aligned to 4 bytes.

/// One entry of the table, relative to its own place so that it needs 8 bytes only.
#[repr(C)]
struct Entry {
    instruction: i32,
    fixup: i32,
}

const _: () = assert!(size_of::<Entry>() == 8);

unsafe extern "C" {
    static __ex_table_start: Entry;
    static __ex_table_end: Entry;
}

/// Where to go on after the instruction at `rip` has faulted, if that was provided for. The table is short: a linear
/// search, only after faults that nobody serves.
pub fn search(rip: u64) -> Option<u64> {
    entries().iter().find(|entry| target(&entry.instruction) == rip).map(|entry| target(&entry.fixup))
}

fn target(field: &i32) -> u64 {
    (core::ptr::from_ref(field) as u64).wrapping_add_signed(i64::from(*field))
}

fn entries() -> &'static [Entry] {
    let start = &raw const __ex_table_start;
    let count = ((&raw const __ex_table_end) as usize - start as usize) / size_of::<Entry>();
    // SAFETY: I1; read-only data.
    unsafe { core::slice::from_raw_parts(start, count) }
}

/// Assembly text that makes a fault at local label `$instruction` continue at local label `$fixup`.
#[macro_export]
macro_rules! ex_table {
    ($instruction:literal, $fixup:literal) => {
        concat!(
            ".pushsection .ex_table, \"a\"\n",
            ".balign 4\n",
            ".long ",
            $instruction,
            " - .\n",
            ".long ",
            $fixup,
            " - .\n",
            ".popsection"
        )
    };
}
