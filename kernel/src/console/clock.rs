//! The time since the kernel was entered, from the TSC.
//!
//! The rate is measured against the timer chip (PIT, channel 2), which every PC has; 1 GHz is assumed if that fails.
//! Until then time stands at 0, as in Linux's log.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mm::arch::ticks;
use x86_64::instructions::port::Port;

const PIT_HZ: u64 = 1_193_182;
const CHANNEL_2: u16 = 0x42;
const MODE: u16 = 0x43;
const SPEAKER: u16 = 0x61;
/// How long to measure: 5 ms is exact to about 0.02 % and hardly seen.
const MEASURE_TICKS: u64 = PIT_HZ / 200;
/// How often. The end of an interval may be noticed late, when a busy host lets the guest wait, and never early: the
/// shortest of several is the right one.
const MEASUREMENTS: usize = 3;
/// Polls before the timer counts as dead. Each takes at least 10 ns.
const MAX_POLLS: u32 = 50_000_000;
const FALLBACK_KHZ: u64 = 1_000_000;

static START: AtomicU64 = AtomicU64::new(0);
static KHZ: AtomicU64 = AtomicU64::new(0);

/// Lets time begin.
pub fn start() {
    START.store(ticks(), Relaxed);
}

/// Measures the TSC's rate. Takes 15 ms.
pub fn calibrate() {
    let plausible = 10_000..100_000_000;
    let measured = (0..MEASUREMENTS).filter_map(|_| measure_khz()).min();
    match measured.filter(|khz| plausible.contains(khz)) {
        Some(khz) => {
            KHZ.store(khz, Relaxed);
            log::info!("tsc: Detected {}.{:03} MHz processor", khz / 1000, khz % 1000);
        }
        None => {
            KHZ.store(FALLBACK_KHZ, Relaxed);
            log::warn!("tsc: Unable to calibrate against PIT, assuming {} MHz", FALLBACK_KHZ / 1000);
        }
    }
}

/// The TSC's rate in kHz; 0 before [`calibrate`].
pub fn tsc_khz() -> u64 {
    KHZ.load(Relaxed)
}

/// Microseconds since [`start`]; 0 before [`calibrate`].
pub fn uptime_us() -> u64 {
    let khz = tsc_khz();
    let elapsed = ticks().wrapping_sub(START.load(Relaxed));
    if khz == 0 { 0 } else { (u128::from(elapsed) * 1000 / u128::from(khz)) as u64 }
}

fn measure_khz() -> Option<u64> {
    const GATE: u8 = 1;
    const SPEAKER_ON: u8 = 2;
    const OUTPUT: u8 = 1 << 5;
    /// Channel 2, both bytes, mode 0: the output rises when the count is over.
    const ONE_SHOT: u8 = 0b1011_0000;
    let mut speaker = Port::<u8>::new(SPEAKER);
    // SAFETY: the timer's channel 2 and its gate belong to nobody else; the speaker stays off.
    unsafe {
        let off = speaker.read() & !(GATE | SPEAKER_ON);
        speaker.write(off);
        Port::<u8>::new(MODE).write(ONE_SHOT);
        Port::<u8>::new(CHANNEL_2).write(MEASURE_TICKS as u8);
        Port::<u8>::new(CHANNEL_2).write((MEASURE_TICKS >> 8) as u8);
        speaker.write(off | GATE);
    }
    let begin = ticks();
    for _ in 0..MAX_POLLS {
        // SAFETY: reading the status has no effect.
        if unsafe { speaker.read() } & OUTPUT != 0 {
            return Some((ticks() - begin) * PIT_HZ / MEASURE_TICKS / 1000);
        }
    }
    None
}

/// The stamp before a line of the log: `[    0.123456] `.
#[derive(Clone, Copy, Debug)]
pub struct Stamp(u64);

impl Stamp {
    /// The stamp of this moment.
    pub fn now() -> Self {
        Self(uptime_us())
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:5}.{:06}] ", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}
