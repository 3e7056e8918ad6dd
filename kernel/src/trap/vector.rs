//! The vectors of interrupts, numbered as in Linux: the more urgent, the higher.
//!
//! ```text
//! 0x00..0x1f  exceptions        0x20..0x2f  the old controllers' lines, all masked
//! 0xec timer    0xfb call function    0xfd reschedule    0xfe APIC error    0xff spurious
//! ```

use core::fmt;

/// The local APIC's timer (Linux: `LOCAL_TIMER_VECTOR`).
pub const TIMER: u8 = 0xec;
/// Another CPU wants something to be run here (Linux: `CALL_FUNCTION_SINGLE_VECTOR`).
pub const CALL_FUNCTION: u8 = 0xfb;
/// Another CPU has given this one something to run (Linux: `RESCHEDULE_VECTOR`).
pub const RESCHEDULE: u8 = 0xfd;
/// The local APIC has found an error (Linux: `ERROR_APIC_VECTOR`).
pub const ERROR: u8 = 0xfe;
/// An interrupt has vanished before it could be delivered (Linux: `SPURIOUS_APIC_VECTOR`).
pub const SPURIOUS: u8 = 0xff;

/// A local APIC's error status, as a number and in words.
#[derive(Clone, Copy, Debug)]
pub struct ApicErrors(pub u32);

impl fmt::Display for ApicErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] = [
            "send checksum",
            "receive checksum",
            "send accept",
            "receive accept",
            "redirectable message",
            "illegal vector sent",
            "illegal vector received",
            "illegal register",
        ];
        write!(f, "{:02x}", self.0)?;
        let found = NAMES.iter().enumerate().filter(|(bit, _)| self.0 & 1 << bit != 0);
        found
            .enumerate()
            .try_for_each(|(i, (_, name))| write!(f, "{}{name}", if i == 0 { ": " } else { ", " }))
    }
}
