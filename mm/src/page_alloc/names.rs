//! Flags of allocations in Linux's words.

use core::fmt;

use crate::gfp::Gfp;

/// Flags in Linux's words, the usual combinations by their name: `GFP_KERNEL|__GFP_ZERO` (Linux: `%pGg`).
#[derive(Clone, Copy, Debug)]
pub struct GfpNames(pub Gfp);

/// In Linux's order: what is named first is not named again as a part of something else.
const NAMES: &[(Gfp, &str)] = &[
    (Gfp::TRANSHUGE, "GFP_TRANSHUGE"),
    (Gfp::TRANSHUGE_LIGHT, "GFP_TRANSHUGE_LIGHT"),
    (Gfp::HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE"),
    (Gfp::HIGHUSER, "GFP_HIGHUSER"),
    (Gfp::USER, "GFP_USER"),
    (Gfp::KERNEL_ACCOUNT, "GFP_KERNEL_ACCOUNT"),
    (Gfp::KERNEL, "GFP_KERNEL"),
    (Gfp::NOFS, "GFP_NOFS"),
    (Gfp::ATOMIC_CONTEXT, "GFP_ATOMIC"),
    (Gfp::NOIO, "GFP_NOIO"),
    (Gfp::NOWAIT, "GFP_NOWAIT"),
    (Gfp::DMA, "GFP_DMA"),
    (Gfp::HIGHMEM, "__GFP_HIGHMEM"),
    (Gfp::DMA32, "GFP_DMA32"),
    (Gfp::HIGH, "__GFP_HIGH"),
    (Gfp::ATOMIC, "__GFP_ATOMIC"),
    (Gfp::IO, "__GFP_IO"),
    (Gfp::FS, "__GFP_FS"),
    (Gfp::NOWARN, "__GFP_NOWARN"),
    (Gfp::RETRY_MAYFAIL, "__GFP_RETRY_MAYFAIL"),
    (Gfp::NOFAIL, "__GFP_NOFAIL"),
    (Gfp::NORETRY, "__GFP_NORETRY"),
    (Gfp::COMP, "__GFP_COMP"),
    (Gfp::ZERO, "__GFP_ZERO"),
    (Gfp::NOMEMALLOC, "__GFP_NOMEMALLOC"),
    (Gfp::MEMALLOC, "__GFP_MEMALLOC"),
    (Gfp::HARDWALL, "__GFP_HARDWALL"),
    (Gfp::THISNODE, "__GFP_THISNODE"),
    (Gfp::RECLAIMABLE, "__GFP_RECLAIMABLE"),
    (Gfp::MOVABLE, "__GFP_MOVABLE"),
    (Gfp::ACCOUNT, "__GFP_ACCOUNT"),
    (Gfp::WRITE, "__GFP_WRITE"),
    (Gfp::RECLAIM, "__GFP_RECLAIM"),
    (Gfp::DIRECT_RECLAIM, "__GFP_DIRECT_RECLAIM"),
    (Gfp::KSWAPD_RECLAIM, "__GFP_KSWAPD_RECLAIM"),
];

impl fmt::Display for GfpNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut rest, mut separator) = (self.0, "");
        for &(flags, name) in NAMES {
            if rest.contains(flags) {
                write!(f, "{separator}{name}")?;
                (rest, separator) = (rest - flags, "|");
            }
        }
        if separator.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn flags_are_named_as_linux_names_them() {
        for (gfp, name) in [
            (Gfp::KERNEL, "GFP_KERNEL"),
            (Gfp::KERNEL | Gfp::ZERO | Gfp::COMP, "GFP_KERNEL|__GFP_COMP|__GFP_ZERO"),
            (Gfp::HIGHUSER_MOVABLE, "GFP_HIGHUSER_MOVABLE"),
            (Gfp::ATOMIC_CONTEXT, "GFP_ATOMIC"),
            (Gfp::KERNEL | Gfp::DMA32, "GFP_KERNEL|GFP_DMA32"),
            (Gfp::NOWAIT | Gfp::NOWARN, "GFP_NOWAIT|__GFP_NOWARN"),
            (Gfp::TRANSHUGE, "GFP_TRANSHUGE"),
            (Gfp::KERNEL_ACCOUNT | Gfp::NORETRY, "GFP_KERNEL_ACCOUNT|__GFP_NORETRY"),
            (Gfp::empty(), "none"),
        ] {
            assert_eq!(format!("{}", GfpNames(gfp)), name);
        }
    }

    #[test]
    fn every_flag_has_a_name() {
        for (_, flag) in Gfp::all().iter_names() {
            assert!(NAMES.iter().any(|&(known, _)| flag.contains(known)), "{flag:?}");
        }
    }
}
