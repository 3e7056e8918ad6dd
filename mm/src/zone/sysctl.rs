//! The settings of zones: what watermarks, reserves and per-CPU lists are computed from, and how they are counted; and their
//! files in `/proc/sys/vm`.

use core::fmt::{self, Write};
use core::ops::RangeInclusive;

use crate::cmdline::simple_number;
use crate::id::ZoneIdx;

/// `/proc/sys/vm`'s settings of zones, as the sysctls' files show them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sysctl {
    /// KiB that all zones together keep free below their min watermark. 0 until computed.
    pub min_free_kbytes: u64,
    /// What the user set `min_free_kbytes` to: then it is not computed below that (Linux: `user_min_free_kbytes`).
    pub user_min_free_kbytes: Option<u64>,
    /// Distance between watermarks, in ten-thousandths of the zone: 1 to 3000.
    pub watermark_scale_factor: u32,
    /// By how much watermarks may be boosted when types mix, in ten-thousandths of the high watermark. 0: never.
    pub watermark_boost_factor: u32,
    /// One page of a zone is protected for so many pages of higher zones; 0: none.
    pub lowmem_reserve_ratio: [u32; ZoneIdx::COUNT],
    /// Per-CPU lists hold this part of a zone; 0: as much as its low watermark.
    pub percpu_pagelist_high_fraction: u32,
    /// Whether NUMA events are counted: 1 or 0.
    pub numa_stat: u32,
    /// Seconds after which CPUs carry over what they have counted. 0: at each tick.
    pub stat_interval: u32,
}

impl Default for Sysctl {
    fn default() -> Self {
        Self {
            min_free_kbytes: 0,
            user_min_free_kbytes: None,
            watermark_scale_factor: 10,
            watermark_boost_factor: 15_000,
            lowmem_reserve_ratio: [256, 256, 32, 0, 0],
            percpu_pagelist_high_fraction: 0,
            numa_stat: 1,
            stat_interval: 1,
        }
    }
}

/// A text that a setting does not take (Linux: `-EINVAL`); nothing changes then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfRange;

/// Lists hold at most an eighth of a zone: more would let them hold most of it
/// (Linux: `MIN_PERCPU_PAGELIST_HIGH_FRACTION`).
const MIN_HIGH_FRACTION: u32 = 8;

/// Seconds that Linux can count in ticks, of which Debian's kernel has 250 a second.
const MAX_INTERVAL: i32 = i32::MAX / 250;

/// A file of `/proc/sys/vm`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setting {
    /// One number in KiB, 0 or more.
    MinFreeKbytes,
    /// One number, 1 to 3000.
    WatermarkScaleFactor,
    /// One number, 0 or more.
    WatermarkBoostFactor,
    /// A number for each zone; fewer set the first ones, those below 1 count as 0.
    LowmemReserveRatio,
    /// One number, 0 or from 8 on.
    PercpuPagelistHighFraction,
    /// One number, 0 or 1.
    NumaStat,
    /// One number of seconds, 0 or more; Linux takes negative ones too.
    StatInterval,
}

impl Setting {
    /// All of them, by name.
    pub const ALL: [Self; 7] = [
        Self::LowmemReserveRatio,
        Self::MinFreeKbytes,
        Self::NumaStat,
        Self::PercpuPagelistHighFraction,
        Self::StatInterval,
        Self::WatermarkBoostFactor,
        Self::WatermarkScaleFactor,
    ];

    /// The file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MinFreeKbytes => "min_free_kbytes",
            Self::WatermarkScaleFactor => "watermark_scale_factor",
            Self::WatermarkBoostFactor => "watermark_boost_factor",
            Self::LowmemReserveRatio => "lowmem_reserve_ratio",
            Self::PercpuPagelistHighFraction => "percpu_pagelist_high_fraction",
            Self::NumaStat => "numa_stat",
            Self::StatInterval => "stat_interval",
        }
    }

    /// The setting of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|setting| setting.name() == name)
    }

    /// Writes the file's text: numbers with tabs between them, and a line's end (Linux: `proc_dointvec`).
    ///
    /// # Errors
    /// Those of `out`.
    pub fn show(self, sysctl: &Sysctl, out: &mut dyn Write) -> fmt::Result {
        let one: u64 = match self {
            Self::MinFreeKbytes => sysctl.min_free_kbytes,
            Self::WatermarkScaleFactor => sysctl.watermark_scale_factor.into(),
            Self::WatermarkBoostFactor => sysctl.watermark_boost_factor.into(),
            Self::PercpuPagelistHighFraction => sysctl.percpu_pagelist_high_fraction.into(),
            Self::NumaStat => sysctl.numa_stat.into(),
            Self::StatInterval => sysctl.stat_interval.into(),
            Self::LowmemReserveRatio => {
                let [first, rest @ ..] = sysctl.lowmem_reserve_ratio;
                write!(out, "{first}")?;
                rest.iter().try_for_each(|ratio| write!(out, "\t{ratio}"))?;
                return writeln!(out);
            }
        };
        writeln!(out, "{one}")
    }

    /// Takes a text that was written to the file. What depends on it is to be computed again:
    /// [`Nodes::set`](crate::node::Nodes::set) does both.
    ///
    /// # Errors
    /// [`OutOfRange`] for a text that is not numbers, too many of them, or ones that the setting does not take.
    pub fn store(self, sysctl: &mut Sysctl, text: &str) -> Result<(), OutOfRange> {
        match self {
            Self::MinFreeKbytes => {
                let kib = one_of(text, 0..=i32::MAX)?.into();
                (sysctl.min_free_kbytes, sysctl.user_min_free_kbytes) = (kib, Some(kib));
            }
            Self::WatermarkScaleFactor => sysctl.watermark_scale_factor = one_of(text, 1..=3000)?,
            Self::WatermarkBoostFactor => sysctl.watermark_boost_factor = one_of(text, 0..=i32::MAX)?,
            Self::LowmemReserveRatio => {
                let mut new = sysctl.lowmem_reserve_ratio;
                let mut slots = new.iter_mut();
                for number in numbers(text) {
                    *slots.next().ok_or(OutOfRange)? = u32::try_from(number?).unwrap_or(0);
                }
                if slots.len() == new.len() {
                    return Err(OutOfRange);
                }
                sysctl.lowmem_reserve_ratio = new;
            }
            Self::PercpuPagelistHighFraction => {
                let fraction = one_of(text, 0..=i32::MAX)?;
                if (1..MIN_HIGH_FRACTION).contains(&fraction) {
                    return Err(OutOfRange);
                }
                sysctl.percpu_pagelist_high_fraction = fraction;
            }
            Self::NumaStat => sysctl.numa_stat = one_of(text, 0..=1)?,
            Self::StatInterval => sysctl.stat_interval = one_of(text, 0..=MAX_INTERVAL)?,
        }
        Ok(())
    }
}

/// The numbers of a text, as Linux reads them: signed, decimal, `0x` or `0`.
fn numbers(text: &str) -> impl Iterator<Item = Result<i32, OutOfRange>> {
    text.split_ascii_whitespace().map(|word| {
        let (negative, digits) = match word.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, word),
        };
        let (number, rest) = simple_number(digits).ok_or(OutOfRange)?;
        let number = i64::try_from(number).ok().filter(|_| rest.is_empty()).ok_or(OutOfRange)?;
        i32::try_from(if negative { -number } else { number }).map_err(|_| OutOfRange)
    })
}

/// The only number of a text, if it lies in `range`, which has no negative ones.
fn one_of(text: &str, range: RangeInclusive<i32>) -> Result<u32, OutOfRange> {
    let mut all = numbers(text);
    let (Some(Ok(number)), None) = (all.next(), all.next()) else { return Err(OutOfRange) };
    u32::try_from(number).ok().filter(|_| range.contains(&number)).ok_or(OutOfRange)
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use proptest::prelude::*;

    use super::*;

    fn shown(setting: Setting, sysctl: &Sysctl) -> String {
        let mut text = String::new();
        setting.show(sysctl, &mut text).unwrap();
        text
    }

    #[track_caller]
    fn takes(setting: Setting, text: &str, after: &str) {
        let mut sysctl = Sysctl::default();
        assert_eq!(setting.store(&mut sysctl, text), Ok(()), "{text:?}");
        assert_eq!(shown(setting, &sysctl), after, "{text:?}");
    }

    #[track_caller]
    fn refuses(setting: Setting, text: &str) {
        let mut sysctl = Sysctl::default();
        assert_eq!(setting.store(&mut sysctl, text), Err(OutOfRange), "{text:?}");
        assert_eq!(sysctl, Sysctl::default(), "{text:?} left something behind");
    }

    #[test]
    fn each_setting_takes_its_range() {
        use Setting::*;
        takes(MinFreeKbytes, "65536", "65536\n");
        takes(MinFreeKbytes, " 0x10\n", "16\n");
        takes(WatermarkScaleFactor, "3000", "3000\n");
        takes(WatermarkBoostFactor, "0", "0\n");
        takes(PercpuPagelistHighFraction, "0", "0\n");
        takes(PercpuPagelistHighFraction, "8", "8\n");
        takes(LowmemReserveRatio, "64 16 8 0 0", "64\t16\t8\t0\t0\n");
        takes(NumaStat, "0", "0\n");
        takes(StatInterval, "60", "60\n");
        refuses(NumaStat, "2");
        refuses(StatInterval, "8589935");
        for text in ["", " ", "x", "-1", "1x", "1 2", "2147483648", "99999999999999999999"] {
            refuses(MinFreeKbytes, text);
        }
        refuses(WatermarkScaleFactor, "0");
        refuses(WatermarkScaleFactor, "3001");
        refuses(PercpuPagelistHighFraction, "7");
    }

    #[test]
    fn fewer_ratios_set_the_first_ones_and_negative_ones_protect_nothing() {
        takes(Setting::LowmemReserveRatio, "128", "128\t256\t32\t0\t0\n");
        takes(Setting::LowmemReserveRatio, "-5 1", "0\t1\t32\t0\t0\n");
        refuses(Setting::LowmemReserveRatio, "");
        refuses(Setting::LowmemReserveRatio, "1 2 3 4 5 6");
        refuses(Setting::LowmemReserveRatio, "1 2 three");
    }

    #[test]
    fn settings_are_found_by_name() {
        for setting in Setting::ALL {
            assert_eq!(Setting::named(setting.name()), Some(setting));
        }
        assert_eq!(Setting::named("swappiness"), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_taken_again(text in "[-0-9x \t]{0,20}", which in 0..Setting::ALL.len()) {
            let (setting, mut sysctl) = (Setting::ALL[which], Sysctl::default());
            if setting.store(&mut sysctl, &text).is_ok() {
                let mut again = Sysctl::default();
                prop_assert_eq!(setting.store(&mut again, &shown(setting, &sysctl)), Ok(()));
                prop_assert_eq!(again, sysctl);
            } else {
                prop_assert_eq!(sysctl, Sysctl::default());
            }
        }
    }
}
