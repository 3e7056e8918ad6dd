//! The serial console and the kernel's log.
//!
//! ```text
//! log::info! ...   -> level filter -> [    0.123456] line ->+
//! print!           -> raw text, no stamp                  ->+-> port 0x3f8
//! emergency_line   -> stamped, never filtered, never waits ->+
//! ```
//!
//! # Invariants
//! - I1: a line is written by one CPU at a time, except by a CPU that reports a fatal error.
//!
//! # Locking
//! `PORT` is held with interrupts off. Its holder may enter it again (a fault or panic inside a `Display`), and then
//! writes on in between. A fatal report takes it over after a bounded wait.

pub mod clock;
mod level;
mod port;

use core::fmt::{self, Write};

pub use level::set_level;
pub use port::take_over;

use port::Guard;

/// Makes the serial port and the `log` macros work.
pub fn init() {
    port::init();
    level::init();
}

/// Writes raw text to the console: no stamp, no level, nothing added.
pub fn print(text: fmt::Arguments<'_>) {
    // Writing to the port cannot fail.
    let _ = lock().write_fmt(text);
}

/// The console for several writes that belong together. Interrupts are off meanwhile.
pub fn lock() -> Console {
    Console(Guard::new())
}

/// The locked console.
#[derive(Debug)]
pub struct Console(Guard);

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

/// Writes raw text without ever waiting for long: for the last words.
pub fn emergency(text: fmt::Arguments<'_>) {
    let _ = Console(Guard::new_bounded()).write_fmt(text);
}

/// Writes a stamped line whatever the log level, without ever waiting for long.
pub fn emergency_line(text: fmt::Arguments<'_>) {
    emergency(format_args!("{}{text}\n", clock::Stamp::now()));
}

/// Prints raw text to the console, as `print!` does on a host.
#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => { $crate::console::print(format_args!($($arg)*)) };
}

/// Prints a raw line to the console, as `println!` does on a host.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($arg)*))) };
}
