//! Log levels as Linux counts them, behind the `log` crate.
//!
//! | `log` | Linux |
//! |---|---|
//! | error | 3, KERN_ERR |
//! | warn | 4, KERN_WARNING |
//! | info | 6, KERN_INFO |
//! | debug | 7, KERN_DEBUG |
//! | trace | 8, only with `ignore_loglevel` or a level above |
//!
//! A message is printed when its number is below the console's level, 7 unless set.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::clock::Stamp;

const DEFAULT: u8 = 7;

static CONSOLE_LEVEL: AtomicU8 = AtomicU8::new(DEFAULT);

struct Logger;

pub(super) fn init() {
    // The second call would fail, and find the same logger.
    let _ = log::set_logger(&Logger);
    set_level(DEFAULT);
}

/// Prints messages below Linux's `level` from now on (Linux: `console_loglevel`).
pub fn set_level(level: u8) {
    CONSOLE_LEVEL.store(level, Relaxed);
    log::set_max_level(match level {
        0..=3 => LevelFilter::Off,
        4 => LevelFilter::Error,
        5 | 6 => LevelFilter::Warn,
        7 => LevelFilter::Info,
        8 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    });
}

fn linux(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug => 7,
        Level::Trace => 8,
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        linux(metadata.level()) < CONSOLE_LEVEL.load(Relaxed)
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            super::print(format_args!("{}{}\n", Stamp::now(), record.args()));
        }
    }

    fn flush(&self) {}
}
