//! `bench=`: what operations cost, in TSC ticks; under `--icount` in instructions.
//!
//! ```text
//! bench=page_o0_pair,page_o3_x64      bench page_o0_pair 66.0
//!   cases by name, or `all`           bench page_o3_x64_alloc 40.0
//!                                     bench page_o3_x64_free 32.0
//! ```
//! Cases have the names, batches and meaning of the module that measured Linux 6.1, so that figures stand side by side:
//! `cargo run --bin bench-table` prints them so. A case of several lines may be asked for by the name of one line.
//!
//! # Not here
//! How ticks are counted and what is taken off: [`measure`].

mod measure;
mod pages;
mod percpu;
mod primitives;
mod slabs;

use core::sync::atomic::{AtomicU32, Ordering};

use measure::Tenths;

use crate::memory::Memory;
use crate::println;

/// What a case measured, one figure for each line that it prints.
type Figures = [Tenths; 3];

/// A case.
struct Case {
    name: &'static str,
    /// What the names of its lines end with.
    lines: &'static [&'static str],
    run: fn(&'static Memory) -> Figures,
}

impl Case {
    /// One figure.
    const fn single(name: &'static str, run: fn(&'static Memory) -> Figures) -> Self {
        Self { name, lines: &[""], run }
    }

    /// A figure for taking many, for giving them back, and for both.
    const fn batch(name: &'static str, run: fn(&'static Memory) -> Figures) -> Self {
        Self { name, lines: &["_alloc", "_free", "_both"], run }
    }

    /// A figure for taking many, and one for giving them back.
    const fn halves(name: &'static str, run: fn(&'static Memory) -> Figures) -> Self {
        Self { name, lines: &["_alloc", "_free"], run }
    }

    /// Whether `wanted`, one name of a list, asks for the line that ends with `line`.
    fn has_line(&self, line: &str, wanted: &str) -> bool {
        wanted.strip_prefix(self.name).is_some_and(|rest| rest.is_empty() || rest == line)
    }

    /// Whether it asks for any of them.
    fn is_meant(&self, wanted: &str) -> bool {
        self.lines.iter().any(|line| self.has_line(line, wanted))
    }
}

fn single(figure: Tenths) -> Figures {
    [figure, Tenths::default(), Tenths::default()]
}

fn cases() -> impl Iterator<Item = &'static Case> {
    [primitives::CASES, pages::CASES, slabs::CASES, percpu::CASES].into_iter().flatten()
}

/// Operations of the running case that found no memory.
static FAILURES: AtomicU32 = AtomicU32::new(0);

/// An operation found no memory.
#[cold]
fn failed() {
    FAILURES.fetch_add(1, Ordering::Relaxed);
}

/// Runs the cases of a list like `page_o0_pair,page_o3_x64` or `all`, and prints a line for each figure. A name that does
/// not exist is reported, and so is a case without enough memory.
pub fn run(memory: &'static Memory, list: &str) {
    let all = list == "all";
    let names = || list.split(',').filter(|name| !all && !name.is_empty());
    for name in names().filter(|name| !cases().any(|case| case.is_meant(name))) {
        log::warn!("bench: no case named '{name}'");
    }
    for case in cases() {
        if all || names().any(|name| case.is_meant(name)) {
            run_case(memory, case, |line| all || names().any(|name| case.has_line(line, name)));
        }
    }
}

fn run_case(memory: &'static Memory, case: &Case, is_wanted: impl Fn(&str) -> bool) {
    FAILURES.store(0, Ordering::Relaxed);
    let figures = (case.run)(memory);
    let failures = FAILURES.load(Ordering::Relaxed);
    if failures > 0 {
        log::warn!("bench: {}: out of memory, {failures} times", case.name);
        return;
    }
    for (line, figure) in case.lines.iter().zip(figures).filter(|(line, _)| is_wanted(line)) {
        println!("bench {}{line} {figure}", case.name);
    }
}
