//! `cma=nn[MG]@[start[MG][-end[MG]]]`: how large the default area shall be, and where.
//!
//! ```text
//! cma=64M              64 MiB anywhere
//! cma=64M@1G           64 MiB from 1 GiB on, just there
//! cma=64M@1G-2G        64 MiB anywhere between 1 and 2 GiB
//! cma=0                none
//! ```

use crate::cmdline::memparse;

/// What `cma=` asks for, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CmaRequest {
    /// How large; 0: no area.
    pub size_bytes: u64,
    /// Where.
    pub place: Place,
}

/// Where an area is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Where there is room.
    Anywhere,
    /// From this address on, or not at all.
    Fixed(u64),
    /// Between these addresses.
    Between(u64, u64),
}

impl CmaRequest {
    /// Reads the option's value (Linux: `early_cma`). `None` when it does not have the form: anything left over, a
    /// number that does not fit, an end at or below the start.
    pub fn parse(text: &str) -> Option<Self> {
        let (size_bytes, rest) = memparse(text).filter(|(_, rest)| rest.len() < text.len())?;
        let Some(place) = rest.strip_prefix('@') else {
            return rest.is_empty().then_some(Self { size_bytes, place: Place::Anywhere });
        };
        let (start, rest) = memparse(place).filter(|(_, rest)| rest.len() < place.len())?;
        let place = match rest.strip_prefix('-') {
            None if rest.is_empty() => {
                start.checked_add(size_bytes)?;
                Place::Fixed(start)
            }
            None => return None,
            Some(text) => {
                let (end, _) = memparse(text).filter(|(_, rest)| rest.is_empty())?;
                (end > start).then_some(Place::Between(start, end))?
            }
        };
        Some(Self { size_bytes, place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(u64, Place)>) {
        let parsed = CmaRequest::parse(text).map(|r| (r.size_bytes, r.place));
        assert_eq!(parsed, expected, "cma={text}");
    }

    #[test]
    fn size_and_place_are_read() {
        const M: u64 = 1 << 20;
        check("64M", Some((64 * M, Place::Anywhere)));
        check("0", Some((0, Place::Anywhere)));
        check("16m@0x10000000", Some((16 * M, Place::Fixed(0x1000_0000))));
        check("1G@1G-4G", Some((1024 * M, Place::Between(1 << 30, 4 << 30))));
        check("4K@0", Some((4096, Place::Fixed(0))));
    }

    #[test]
    fn what_has_another_form_is_refused() {
        let wrong =
            ["", "M", "64Mx", "64M@", "64M@x", "64M@1G-", "64M@2G-1G", "64M@1G-1G", "64M@1G-2Gx", "-1"];
        for text in wrong.into_iter().chain(["64M@0xffffffffffffffff", "99999999999999999999", "64M-1G"]) {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-fxKMGTPE@-]{0,24}") {
            if let Some(CmaRequest { size_bytes, place: Place::Fixed(start) }) = CmaRequest::parse(&text) {
                prop_assert!(start.checked_add(size_bytes).is_some());
            }
        }
    }
}
