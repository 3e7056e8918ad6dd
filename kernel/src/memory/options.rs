//! What the command line says about memory.

use mm::cmdline::Cmdline;
use mm::{memblock, numa};

use crate::cmdline;

/// What the command line says about memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Whether memblock logs what it does.
    pub(super) memblock: memblock::Debug,
    /// Whether the firmware's nodes are used.
    pub(super) numa: numa::Mode,
}

impl Options {
    /// Reads the options; malformed ones are reported and ignored.
    pub(super) fn new(cmdline: &Cmdline<'_>) -> Self {
        let memblock = match cmdline.value("memblock") {
            Some("debug") => memblock::Debug::On,
            None if !cmdline.has("memblock") => memblock::Debug::Off,
            _ => {
                cmdline::malformed("memblock");
                memblock::Debug::Off
            }
        };
        let numa = match cmdline.value("numa") {
            Some("off") => numa::Mode::Off,
            None if !cmdline.has("numa") => numa::Mode::On,
            _ => {
                cmdline::malformed("numa");
                numa::Mode::On
            }
        };
        Self { memblock, numa }
    }
}
