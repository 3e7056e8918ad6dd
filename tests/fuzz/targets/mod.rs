//! The targets.

mod aml;
mod amount;
mod cma;
mod cmdline;
mod e820;
mod madt;
mod memmap;
mod numa;
mod setting;
mod slit;
mod srat;

/// A function from bytes to calls; it panics when what must hold does not.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which its seeds' names begin with.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// All of them, by name.
pub const TARGETS: &[Target] = &[
    target("aml", aml::run),
    target("amount", amount::run),
    target("cma", cma::run),
    target("cmdline", cmdline::run),
    target("e820", e820::run),
    target("madt", madt::run),
    target("memmap", memmap::run),
    target("numa", numa::run),
    target("setting", setting::run),
    target("slit", slit::run),
    target("srat", srat::run),
];
