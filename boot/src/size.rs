//! Sizes of memory as QEMU's `-m` takes them: a number of MiB, or a number with a unit.

use std::fmt;
use std::str::FromStr;

/// A size in bytes, a multiple of 1 MiB or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// The granule: QEMU's machines have whole MiB.
    const MIB: u64 = 1 << 20;

    /// So many MiB.
    pub const fn mib(mib: u32) -> Size {
        Size(mib as u64 * Size::MIB)
    }

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// The size in `count` parts as equal as whole MiB allow, the last ones larger.
    pub fn split(self, count: u32) -> Vec<Size> {
        let mib = self.0 / Size::MIB;
        let (count, mut left) = (u64::from(count), mib);
        (0..count)
            .map(|part| {
                let here = left / (count - part);
                left -= here;
                Size(here * Size::MIB)
            })
            .collect()
    }

    /// The sum, unless it passes what a number can hold.
    pub fn sum(sizes: &[Size]) -> Option<Size> {
        sizes.iter().try_fold(0u64, |sum, size| sum.checked_add(size.0)).map(Size)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 / Size::MIB {
            0 => f.write_str("0"),
            mib if mib % 1024 == 0 => write!(f, "{}G", mib / 1024),
            mib => write!(f, "{mib}M"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_ascii_alphabetic()).len());
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("`{text}` is no size: a number of MiB, or a number with K, M, G or T"));
        }
        let shift = match unit {
            "k" | "K" => 10,
            "" | "m" | "M" => 20,
            "g" | "G" => 30,
            "t" | "T" => 40,
            _ => return Err(format!("`{unit}` is no unit: K, M, G or T")),
        };
        let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        match bytes {
            Some(bytes) if bytes % Size::MIB == 0 => Ok(Size(bytes)),
            Some(_) => Err(format!("`{text}` is no multiple of 1M")),
            None => Err(format!("`{text}` is too large")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, mib: u32, shown: &str) {
        let size: Size = text.parse().unwrap();
        assert_eq!((size, size.to_string().as_str()), (Size::mib(mib), shown));
    }

    #[test]
    fn sizes_are_mib_unless_they_say_otherwise() {
        reads("512", 512, "512M");
        reads("128M", 128, "128M");
        reads("6g", 6144, "6G");
        reads("2048K", 2, "2M");
        reads("1T", 1 << 20, "1024G");
        reads("0", 0, "0");
    }

    #[test]
    fn what_is_no_size_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "no size"),
            ("M", "no size"),
            ("-5M", "no size"),
            ("1.5G", "no size"),
            ("12X", "no unit"),
            ("1K", "multiple"),
            ("99999999999999T", "too large"),
            ("+5", "no size"),
            ("5é", "no size"),
        ] {
            let error = text.parse::<Size>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let parts = Size::mib(514).split(4);
        assert_eq!(parts, [128, 128, 129, 129].map(Size::mib));
        assert_eq!(Size::sum(&parts), Some(Size::mib(514)));
    }
}
