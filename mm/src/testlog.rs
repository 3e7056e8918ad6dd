//! For tests: the lines that a piece of code logs. Each thread keeps its own.

use core::cell::RefCell;
use std::format;
use std::string::String;
use std::sync::Once;
use std::thread_local;
use std::vec::Vec;

thread_local! {
    static LINES: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.push(format!("{}", record.args()));
            }
        });
    }

    fn flush(&self) {}
}

/// What `f` returns, and what it logged on this thread.
pub(crate) fn capture<R>(f: impl FnOnce() -> R) -> (R, Vec<String>) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Logger).expect("tests of mm have one logger");
        log::set_max_level(log::LevelFilter::Trace);
    });
    LINES.set(Some(Vec::new()));
    let result = f();
    (result, LINES.take().unwrap_or_default())
}
