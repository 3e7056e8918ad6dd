//! The SLIT: one that is taken is complete and makes sense.

use mm::numa::{LOCAL_DISTANCE, Slit};

use crate::tables::raw_and_repaired;

pub(super) fn run(bytes: &[u8]) {
    raw_and_repaired(bytes, *b"SLIT", |table| {
        let Ok(slit) = Slit::new(table) else { return };
        let nr = slit.nr_domains();
        assert!(nr.checked_mul(nr).is_some_and(|size| size <= table.len()), "{nr} domains");
        let nr = nr as u32;
        for (from, to) in (0..nr).flat_map(|from| (0..nr).map(move |to| (from, to))) {
            match slit.distance(from, to).expect("a domain of the table") {
                LOCAL_DISTANCE => assert_eq!(from, to),
                distance => assert!(from != to && distance > LOCAL_DISTANCE, "{from} to {to}: {distance}"),
            }
        }
        for outside in [nr, u32::MAX] {
            assert_eq!((slit.distance(0, outside), slit.distance(outside, 0)), (None, None));
        }
    });
}
