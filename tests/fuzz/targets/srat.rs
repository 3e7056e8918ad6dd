//! The SRAT's entries: each is read once, and only from the table's own bytes.

use mm::numa::Srat;

use crate::tables::raw_and_repaired;

pub(super) fn run(bytes: &[u8]) {
    raw_and_repaired(bytes, *b"SRAT", |table| {
        let Ok(srat) = Srat::new(table) else { return };
        let found: Vec<_> = srat.affinities().collect();
        assert!(found.len() <= table.len() / 2 + 1, "{} entries in {} bytes", found.len(), table.len());
        for error in found.iter().filter_map(|entry| entry.err()) {
            assert!(!format!("{error}").is_empty());
        }
        // What follows the table does not change it.
        let longer = [table, &[0xff; 64]].concat();
        let again: Vec<_> =
            Srat::new(&longer).expect("a table may be followed by others").affinities().collect();
        assert_eq!(again, found);
    });
}
