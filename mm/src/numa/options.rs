//! What `numa=` asks for.

use crate::cmdline::{memparse, simple_number};

/// Where nodes come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// From the firmware's tables.
    #[default]
    On,
    /// The tables are not read (`numa=noacpi`): one node for all.
    NoTables,
    /// One node for all (`numa=off`).
    Off,
}

/// All that `numa=` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options<'o> {
    /// Where nodes come from.
    pub mode: Mode,
    /// What they are split into.
    pub fake: Option<Fake<'o>>,
}

/// A value of `numa=` that makes no sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl<'o> Options<'o> {
    /// Takes one more value; what earlier ones said stays (Linux: `numa_setup`).
    ///
    /// # Errors
    /// [`Malformed`]; nothing changes then.
    pub fn add(&mut self, value: &'o str) -> Result<(), Malformed> {
        match value {
            "off" => self.mode = Mode::Off,
            "noacpi" if self.mode == Mode::Off => {}
            "noacpi" => self.mode = Mode::NoTables,
            // The HMAT is not read anyway.
            "nohmat" => {}
            _ => {
                let fake = value.strip_prefix("fake=").and_then(Fake::parse);
                self.fake = Some(fake.ok_or(Malformed)?);
            }
        }
        Ok(())
    }
}

impl From<Mode> for Options<'_> {
    fn from(mode: Mode) -> Self {
        Self { mode, fake: None }
    }
}

/// How nodes are split into emulated ones: `numa=fake=` and `4`, `1G` or `2U`, perhaps with distances behind a colon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fake<'o> {
    pub(super) split: Split,
    /// Distances, row by row.
    distances: &'o str,
}

/// How many emulated nodes, or how large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Split {
    /// So many, all with about as much memory.
    Into(u64),
    /// So many of each node, all of the same span.
    EachInto(u64),
    /// Of so many bytes of memory each.
    Sized(u64),
}

impl<'o> Fake<'o> {
    /// Reads what stands behind `fake=`; none of zero nodes or size.
    pub fn parse(text: &'o str) -> Option<Self> {
        let (number, suffix) = simple_number(text).filter(|(number, _)| *number > 0)?;
        let (split, rest) = match suffix.strip_prefix('U') {
            Some(rest) => (Split::EachInto(number), rest),
            None if suffix.is_empty() || suffix.starts_with(':') => (Split::Into(number), suffix),
            None => memparse(text).map(|(size, rest)| (Split::Sized(size), rest))?,
        };
        let distances = if rest.is_empty() { rest } else { rest.strip_prefix(':')? };
        let good = distances.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
        // Linux does not find the colon behind a U.
        let distances = if matches!(split, Split::EachInto(_)) { "" } else { distances };
        good.then_some(Self { split, distances })
    }

    /// The distances that are given, row by row, to the first that is missing. One without a comma behind it does not
    /// count (Linux: `get_option` says so, and nobody asks further).
    pub(super) fn distances(&self) -> impl Iterator<Item = u64> + use<'o> {
        let with_comma = self.distances.split_inclusive(',').map_while(|text| text.strip_suffix(','));
        with_comma.map_while(|text| simple_number(text).map(|(number, _)| number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[track_caller]
    fn fake(text: &str, split: Split, distances: &[u64]) {
        let mut options = Options::default();
        options.add(text).unwrap();
        let fake = options.fake.unwrap();
        assert_eq!((fake.split, fake.distances().collect::<Vec<_>>()), (split, distances.to_vec()), "{text}");
    }

    #[test]
    fn emulated_nodes_are_asked_for_by_number_size_or_number_for_each_node() {
        fake("fake=4", Split::Into(4), &[]);
        fake("fake=0x10", Split::Into(16), &[]);
        fake("fake=3U", Split::EachInto(3), &[]);
        fake("fake=512M", Split::Sized(512 << 20), &[]);
        fake("fake=2G", Split::Sized(2 << 30), &[]);
        fake("fake=65536K", Split::Sized(64 << 20), &[]);
    }

    #[test]
    fn a_distance_counts_with_a_comma_behind_it() {
        fake("fake=2:10,30,31,10,", Split::Into(2), &[10, 30, 31, 10]);
        fake("fake=2:10,30", Split::Into(2), &[10]);
        fake("fake=1G:10,,31,", Split::Sized(1 << 30), &[10]);
        fake("fake=2:", Split::Into(2), &[]);
        fake("fake=2U:10,30,", Split::EachInto(2), &[]);
    }

    #[test]
    fn options_add_up() {
        let mut options = Options::default();
        for value in ["fake=2", "off", "noacpi", "nohmat"] {
            options.add(value).unwrap();
        }
        assert_eq!((options.mode, options.fake.is_some()), (Mode::Off, true));
        let mut options = Options::default();
        options.add("noacpi").unwrap();
        assert_eq!(options.mode, Mode::NoTables);
    }

    #[test]
    fn what_makes_no_sense_changes_nothing() {
        for value in [
            "",
            "on",
            "offline",
            "fake",
            "fake=",
            "fake=x",
            "fake=0",
            "fake=0U",
            "fake=0G",
            "fake=-1",
            "fake=4x",
            "fake=4UU",
            "fake=1GG",
            "fake=2:a",
            "fake=2;",
            "fake=99999999999999999999",
            "fake=99999999999G",
        ] {
            let mut options = Options::default();
            assert_eq!(options.add(value), Err(Malformed), "{value}");
            assert_eq!(options, Options::default(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".*", tail in "[0-9xUMGK:,]{0,12}") {
            let mut options = Options::default();
            let _ = options.add(&text);
            if let Some(fake) = Fake::parse(&tail) {
                prop_assert!(fake.distances().count() <= tail.len());
            }
        }
    }
}
