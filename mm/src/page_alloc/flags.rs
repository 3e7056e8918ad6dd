//! How hard one attempt at an allocation tries: Linux's `ALLOC_*`, as they follow from GFP flags and from who allocates.
//!
//! ```text
//!                 first try       after kswapd was woken         with reserves
//! WMARK           low             min                            none (All), min (Oom)
//! HIGH            -               __GFP_HIGH                     -
//! HARDER          -               __GFP_ATOMIC, !NOMEMALLOC      -
//! CPUSET          see `walk`      !__GFP_ATOMIC                  -
//! NOFRAGMENT      Normal zone     -                              -
//! KSWAPD          __GFP_KSWAPD_RECLAIM, always
//! CMA             movable pages, all three
//! ```
//! As in Linux, neither the last look before something is killed nor the last tries of what must not fail have `CMA`.

use crate::gfp::{Gfp, MigrateType};

use super::hooks::Reserves;

bitflags::bitflags! {
    /// What an attempt may do (Linux: `ALLOC_*`). The watermark to stay above is apart, in [`Depth`](super::watermark::Depth).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct AllocFlags: u16 {
        /// Take what there is (Linux: `ALLOC_NO_WATERMARKS`).
        const NO_WATERMARKS = 0x04;
        /// Half of the reserve, for a victim of the OOM killer (Linux: `ALLOC_OOM`).
        const OOM = 0x08;
        /// A quarter less is left over, and high-atomic blocks may be taken (Linux: `ALLOC_HARDER`).
        const HARDER = 0x10;
        /// Only half is left over (Linux: `ALLOC_HIGH`).
        const HIGH = 0x20;
        /// Only nodes that the context allows (Linux: `ALLOC_CPUSET`).
        const CPUSET = 0x40;
        /// Contiguous-memory areas may be used (Linux: `ALLOC_CMA`).
        const CMA = 0x80;
        /// Types are not mixed within pageblocks (Linux: `ALLOC_NOFRAGMENT`).
        const NOFRAGMENT = 0x100;
        /// kswapd may be woken (Linux: `ALLOC_KSWAPD`).
        const KSWAPD = 0x800;
    }
}

impl AllocFlags {
    /// Of the first try, less what depends on the zone.
    #[inline]
    pub(super) const fn first(gfp: Gfp) -> Self {
        let kswapd = if gfp.contains(Gfp::KSWAPD_RECLAIM) { Self::KSWAPD } else { Self::empty() };
        match gfp.migrate_type() {
            MigrateType::Movable => kswapd.union(Self::CMA),
            _ => kswapd,
        }
    }

    /// Of the tries after that (Linux: `gfp_to_alloc_flags`).
    pub(super) fn second(gfp: Gfp) -> Self {
        let mut flags = Self::first(gfp) | Self::CPUSET;
        flags.set(Self::HIGH, gfp.contains(Gfp::HIGH));
        if gfp.contains(Gfp::ATOMIC) {
            flags.set(Self::HARDER, !gfp.contains(Gfp::NOMEMALLOC));
            // Rather outside of the allowed nodes than not at all.
            flags.remove(Self::CPUSET);
        }
        flags
    }

    /// What an allocation may use of the reserves, given what its context may (Linux: `__gfp_pfmemalloc_flags`).
    pub(super) fn reserves(gfp: Gfp, context: Reserves) -> Self {
        if gfp.contains(Gfp::NOMEMALLOC) {
            return Self::empty();
        }
        match context {
            _ if gfp.contains(Gfp::MEMALLOC) => Self::NO_WATERMARKS,
            Reserves::All => Self::NO_WATERMARKS,
            Reserves::Oom => Self::OOM,
            Reserves::None => Self::empty(),
        }
    }

    /// Whether high-atomic blocks count as free (Linux: `alloc_harder`).
    #[inline]
    pub(super) const fn harder(self) -> bool {
        self.intersects(Self::HARDER.union(Self::OOM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_follow_from_gfp_as_in_linux() {
        use AllocFlags as F;
        for (gfp, flags) in [
            (Gfp::KERNEL, F::CPUSET | F::KSWAPD),
            (Gfp::NOWAIT, F::CPUSET | F::KSWAPD),
            (Gfp::ATOMIC_CONTEXT, F::HIGH | F::HARDER | F::KSWAPD),
            (Gfp::ATOMIC_CONTEXT | Gfp::NOMEMALLOC, F::HIGH | F::KSWAPD),
            (Gfp::KERNEL | Gfp::HIGH, F::CPUSET | F::HIGH | F::KSWAPD),
            (Gfp::TRANSHUGE_LIGHT, F::CPUSET | F::CMA),
            (Gfp::empty(), F::CPUSET),
        ] {
            assert_eq!(F::second(gfp), flags, "{gfp:?}");
        }
    }

    #[test]
    fn reserves_are_for_memalloc_and_for_victims() {
        use AllocFlags as F;
        for (gfp, context, flags) in [
            (Gfp::KERNEL, Reserves::None, F::empty()),
            (Gfp::KERNEL | Gfp::MEMALLOC, Reserves::None, F::NO_WATERMARKS),
            (Gfp::KERNEL, Reserves::All, F::NO_WATERMARKS),
            (Gfp::KERNEL, Reserves::Oom, F::OOM),
            (Gfp::KERNEL | Gfp::MEMALLOC, Reserves::Oom, F::NO_WATERMARKS),
            (Gfp::KERNEL | Gfp::MEMALLOC | Gfp::NOMEMALLOC, Reserves::All, F::empty()),
        ] {
            assert_eq!(F::reserves(gfp, context), flags, "{gfp:?} {context:?}");
        }
    }
}
