//! Fuzz targets: functions from bytes to calls that panic when an invariant does not hold.
//!
//! ```text
//! seeds/TARGET-*.hex  --+--> replay.rs     in `cargo test`: seeds, broken seeds, some thousands of mutations
//!                       +--> libfuzzer/    `tests/fuzz/run TARGET [SECONDS]`: guided by coverage, needs a C++ compiler
//!                                 |
//!                                 v
//!                          TARGETS[..].run(bytes)
//! ```
//!
//! A new target is a file in `targets/`, its two lines in `targets/mod.rs`, and seeds. What a fuzzer finds becomes a seed
//! too, and stays one.

mod input;
mod machine;
pub mod mutate;
pub mod seeds;
mod tables;
#[path = "../targets/mod.rs"]
mod targets;

pub use targets::{TARGETS, Target};

use std::fmt::Write;
use std::sync::Once;

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Makes log lines be formatted, and thrown away: what prints broken values is under test, too.
pub fn format_log_lines() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if log::set_logger(&Formatter).is_ok() {
            log::set_max_level(log::LevelFilter::Trace);
        }
    });
}

struct Formatter;

struct Nowhere;

impl Write for Nowhere {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        Ok(())
    }
}

impl log::Log for Formatter {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        Nowhere.write_fmt(*record.args()).expect("a log line that cannot be formatted");
    }

    fn flush(&self) {}
}
