//! The settings that watermarks, reserves and per-CPU lists are computed from.

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
        }
    }
}

/// A setting that its sysctl does not take (Linux: `-EINVAL`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfRange;

/// Lists hold at most an eighth of a zone: more would let them hold most of it
/// (Linux: `MIN_PERCPU_PAGELIST_HIGH_FRACTION`).
const MIN_HIGH_FRACTION: u32 = 8;

impl Sysctl {
    /// Sets `vm.min_free_kbytes`, from the user.
    ///
    /// # Errors
    /// Above `i32::MAX`.
    pub fn set_min_free_kbytes(&mut self, kib: u64) -> Result<(), OutOfRange> {
        if kib > i32::MAX as u64 {
            return Err(OutOfRange);
        }
        (self.min_free_kbytes, self.user_min_free_kbytes) = (kib, Some(kib));
        Ok(())
    }

    /// Sets `vm.watermark_scale_factor`.
    ///
    /// # Errors
    /// Outside 1 to 3000.
    pub fn set_watermark_scale_factor(&mut self, factor: u32) -> Result<(), OutOfRange> {
        if !(1..=3000).contains(&factor) {
            return Err(OutOfRange);
        }
        self.watermark_scale_factor = factor;
        Ok(())
    }

    /// Sets `vm.lowmem_reserve_ratio`; negative values count as 0.
    pub fn set_lowmem_reserve_ratio(&mut self, ratio: [i32; ZoneIdx::COUNT]) {
        self.lowmem_reserve_ratio = ratio.map(|r| r.max(0) as u32);
    }

    /// Sets `vm.percpu_pagelist_high_fraction`.
    ///
    /// # Errors
    /// Between 1 and 7.
    pub fn set_percpu_pagelist_high_fraction(&mut self, fraction: u32) -> Result<(), OutOfRange> {
        if fraction != 0 && fraction < MIN_HIGH_FRACTION {
            return Err(OutOfRange);
        }
        self.percpu_pagelist_high_fraction = fraction;
        Ok(())
    }
}
