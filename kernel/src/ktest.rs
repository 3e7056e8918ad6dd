//! In-kernel tests: how they are registered and run.
//!
//! ```text
//! fn a_fact() { assert!(...) }
//! kernel::ktest!(a_fact);                       on every machine
//! kernel::ktest!(two_nodes, on "numa2");        on the machines named
//! ```
//!
//! What the host reads on the console, one line each:
//!
//! ```text
//! KTEST begin NAME
//! KTEST ok NAME             or   KTEST fail NAME: reason
//! KTEST done                all asked for were run
//! ```
//!
//! A failed assertion is a panic, and a panic ends the run: the host boots again for the tests that are left. The host
//! asks for tests by the fw_cfg file `opt/strata/ktests` (a name a line) or by `ktest=A,B` on the command line.
//!
//! # Invariants
//! - I1: the linker script gathers the [`KTest`]s between `__ktests_start` and `__ktests_end`.
//! - I2: `RUNNING` is null or the test that the runner is in.
//! - I3: `FIRST`, `LAST` and every `next` are null or a registered test; each wanted test is in the list once.

use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};

use crate::{Kernel, console, exit, println};

/// The file of fw_cfg that names the tests to run.
const WANTED: &str = "opt/strata/ktests";
/// Longest name of a test.
const MAX_NAME: usize = 256;

/// A test, as [`ktest!`](crate::ktest!) registers it.
#[derive(Debug)]
#[repr(C)]
pub struct KTest {
    /// `module::path::name`, without the crate.
    pub name: &'static str,
    /// On which machines it runs, by the host's names, separated by commas; `all` for every one, `debug` for
    /// the default one and those with debugging options of the page allocator.
    pub machines: &'static str,
    /// Panics to fail.
    pub run: fn(),
    /// Whether the host asked for it.
    wanted: AtomicBool,
    /// The test that the host wants after it.
    next: AtomicPtr<KTest>,
}

impl KTest {
    /// A test that was not asked for yet.
    pub const fn new(name: &'static str, machines: &'static str, run: fn()) -> Self {
        Self { name, machines, run, wanted: AtomicBool::new(false), next: AtomicPtr::new(ptr::null_mut()) }
    }
}

/// Registers a test function, for all machines or those named.
#[macro_export]
macro_rules! ktest {
    ($test:ident) => {
        $crate::ktest!($test, on "all");
    };
    ($test:ident, on $machines:literal) => {
        const _: () = {
            const NAME: &str = $crate::ktest::without_crate(concat!(module_path!(), "::", stringify!($test)));
            const TEXT: [&str; 4] = [NAME, " machines=", $machines, "\n"];
            #[used]
            #[unsafe(link_section = ".ktests")]
            static TEST: $crate::ktest::KTest = $crate::ktest::KTest::new(NAME, $machines, $test);
            #[used]
            #[unsafe(link_section = ".ktest_names")]
            static LINE: [u8; $crate::ktest::length(TEXT)] = $crate::ktest::concat(TEXT);
        };
    };
}

/// A path without its first segment.
pub const fn without_crate(path: &'static str) -> &'static str {
    let bytes = path.as_bytes();
    let mut i = 0;
    while i + 1 < bytes.len() {
        if bytes[i] == b':' && bytes[i + 1] == b':' {
            return path.split_at(i + 2).1;
        }
        i += 1;
    }
    path
}

/// The length of the texts together.
pub const fn length(texts: [&str; 4]) -> usize {
    texts[0].len() + texts[1].len() + texts[2].len() + texts[3].len()
}

/// The texts, one behind the other; `N` is their [`length`].
pub const fn concat<const N: usize>(texts: [&str; 4]) -> [u8; N] {
    let mut out = [0; N];
    let (mut text, mut at) = (0, 0);
    while text < texts.len() {
        let bytes = texts[text].as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            out[at] = bytes[i];
            at += 1;
            i += 1;
        }
        text += 1;
    }
    out
}

unsafe extern "C" {
    /// Its address is that of the first test.
    static __ktests_start: u8;
    static __ktests_end: u8;
}

/// The wanted tests, linked in the order in which the host named them; so no number of them needs memory.
static FIRST: AtomicPtr<KTest> = AtomicPtr::new(ptr::null_mut());
static LAST: AtomicPtr<KTest> = AtomicPtr::new(ptr::null_mut());

static RUNNING: AtomicPtr<KTest> = AtomicPtr::new(ptr::null_mut());

/// All tests of this image.
pub fn all() -> &'static [KTest] {
    let start = (&raw const __ktests_start).cast::<KTest>();
    let count = ((&raw const __ktests_end) as usize - start as usize) / size_of::<KTest>();
    // SAFETY: I1; the tests' only changing field is atomic.
    unsafe { core::slice::from_raw_parts(start, count) }
}

/// Runs the tests that the host asked for, in its order, and ends the run.
pub fn run(kernel: &Kernel) -> ! {
    select(kernel);
    let test_at = |link: &AtomicPtr<KTest>| {
        // SAFETY: I3: null or a static.
        unsafe { link.load(Relaxed).as_ref() }
    };
    for test in core::iter::successors(test_at(&FIRST), |test| test_at(&test.next)) {
        println!("KTEST begin {}", test.name);
        RUNNING.store(ptr::from_ref(test).cast_mut(), Relaxed);
        (test.run)();
        RUNNING.store(ptr::null_mut(), Relaxed);
        println!("KTEST ok {}", test.name);
    }
    println!("KTEST done");
    exit::success()
}

fn select(kernel: &Kernel) {
    let file = kernel.fw_cfg.as_ref().and_then(|device| Some((device, device.find(WANTED)?)));
    match file {
        Some((device, file)) => select_lines(device.bytes(file)),
        None => kernel
            .cmdline
            .all("ktest")
            .filter_map(|param| param.value)
            .flat_map(|list| list.split(','))
            .for_each(want),
    }
}

fn select_lines(bytes: impl Iterator<Item = u8>) {
    let mut name = [0; MAX_NAME];
    let mut length = 0;
    for byte in bytes.chain([b'\n']) {
        if byte != b'\n' {
            // Longer than any test's name: cut, so it matches none and is reported.
            if length < MAX_NAME {
                name[length] = byte;
                length += 1;
            }
            continue;
        }
        want(core::str::from_utf8(&name[..length]).unwrap_or("?").trim());
        length = 0;
    }
}

fn want(name: &str) {
    if name.is_empty() {
        return;
    }
    let Some(test) = all().iter().find(|test| test.name == name) else {
        println!("KTEST fail {name}: no such test in this kernel");
        return;
    };
    if test.wanted.swap(true, Relaxed) {
        return;
    }
    let link = ptr::from_ref(test).cast_mut();
    let last = LAST.swap(link, Relaxed);
    // SAFETY: I3: null or a static.
    match unsafe { last.as_ref() } {
        Some(last) => last.next.store(link, Relaxed),
        None => FIRST.store(link, Relaxed),
    }
}

/// Reports the test that runs, if one does, as failed. Called at the start of a fatal report.
pub(crate) fn fail_running(reason: fmt::Arguments<'_>) {
    let test = RUNNING.swap(ptr::null_mut(), Relaxed);
    // SAFETY: I2: null or a static.
    if let Some(test) = unsafe { test.as_ref() } {
        console::emergency(format_args!("KTEST fail {}: {}\n", test.name, OneLine(reason)));
    }
}

/// Displays a text with its line breaks as spaces.
struct OneLine<'a>(fmt::Arguments<'a>);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Filter(f).write_fmt(self.0)
    }
}

struct Filter<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Filter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.split_inclusive('\n').try_for_each(|part| match part.strip_suffix('\n') {
            Some(part) => self.0.write_str(part).and_then(|()| self.0.write_char(' ')),
            None => self.0.write_str(part),
        })
    }
}
