//! What the command line says about memory.

use mm::acpi::{CpuLimits, MAX_CPUS};
use mm::cma::CmaRequest;
use mm::cmdline::Cmdline;
use mm::node::HugePages;
use mm::page_alloc::{DebugOptions, FailSpec, GuardMinorder};
use mm::zone::{Amount, MovableRequest};
use mm::{memblock, numa};

use crate::cmdline;

/// What the command line says about memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Whether memblock logs what it does.
    pub(super) memblock: memblock::Debug,
    /// How many CPUs there may be.
    pub(super) cpus: CpuLimits,
    /// Where nodes come from.
    pub(super) numa: numa::Options<'static>,
    /// What memory shall be movable.
    pub(super) movable: MovableRequest,
    /// Whether memory is kept free for huge pages.
    pub(super) huge_pages: HugePages,
    /// Whether zonelists are logged.
    pub(super) zonelists: Zonelists,
    /// The contiguous-memory area.
    pub(super) cma: Option<CmaRequest>,
    /// Which allocations fail on purpose.
    pub(super) fail_page_alloc: Option<FailSpec>,
    /// Debugging of the page allocator.
    pub(super) debugging: DebugOptions,
    /// Which halves of split blocks are kept back, with `debug_pagealloc=on`.
    pub(super) guards: GuardMinorder,
}

/// Whether zonelists are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Zonelists {
    /// No.
    Quiet,
    /// From `mminit_loglevel=1` on, as Linux.
    Logged,
}

impl Options {
    /// Reads the options; malformed ones are reported and ignored.
    pub(super) fn new(cmdline: &Cmdline<'static>) -> Self {
        let memblock = match cmdline.value("memblock") {
            Some("debug") => memblock::Debug::On,
            None if !cmdline.has("memblock") => memblock::Debug::Off,
            _ => {
                cmdline::malformed("memblock");
                memblock::Debug::Off
            }
        };
        Self {
            memblock,
            cpus: cpus(cmdline),
            numa: numa(cmdline),
            movable: movable(cmdline),
            huge_pages: huge_pages(cmdline),
            zonelists: zonelists(cmdline),
            cma: cma(cmdline),
            fail_page_alloc: fail_page_alloc(cmdline),
            debugging: DebugOptions::from_cmdline(cmdline, cmdline::malformed),
            guards: GuardMinorder::from_cmdline(cmdline),
        }
    }
}

/// `nr_cpus=`, `possible_cpus=`, `maxcpus=`, `nosmp`: later ones win (Linux: `nrcpus`, `_setup_possible_cpus`, `maxcpus`,
/// `nosmp`).
fn cpus(cmdline: &Cmdline<'_>) -> CpuLimits {
    let mut limits = CpuLimits::default();
    for param in cmdline.params() {
        let value = param.value.and_then(|value| value.parse::<u32>().ok());
        match (param.name, value) {
            ("nr_cpus", Some(nr @ 1..MAX_CPUS)) => limits.nr_cpus = limits.nr_cpus.min(nr),
            ("possible_cpus", Some(nr)) => limits.possible = Some(nr),
            ("maxcpus", Some(nr)) => limits.max_cpus = nr,
            ("nosmp", _) => limits.max_cpus = 0,
            ("nr_cpus" | "possible_cpus" | "maxcpus", _) => cmdline::malformed(param.name),
            _ => {}
        }
    }
    limits
}

/// All of `numa=`: they add up.
fn numa(cmdline: &Cmdline<'static>) -> numa::Options<'static> {
    let mut options = numa::Options::default();
    for param in cmdline.all("numa") {
        if options.add(param.value.unwrap_or("")).is_err() {
            cmdline::malformed("numa");
        }
    }
    options
}

/// `kernelcore=`, `movablecore=`; `movable_node` wins over both.
fn movable(cmdline: &Cmdline<'_>) -> MovableRequest {
    let amount = |name| match cmdline.last(name) {
        None => Amount::Unsaid,
        Some(param) => param.value.and_then(Amount::parse).unwrap_or_else(|| {
            cmdline::malformed(name);
            Amount::Unsaid
        }),
    };
    let (kernelcore, movablecore) = (amount("kernelcore"), amount("movablecore"));
    match cmdline.has("movable_node") {
        true => MovableRequest::Hotplug,
        false => MovableRequest::Sizes { kernelcore, movablecore },
    }
}

fn huge_pages(cmdline: &Cmdline<'_>) -> HugePages {
    match cmdline.value("transparent_hugepage") {
        None | Some("always" | "madvise") => HugePages::Wanted,
        Some("never") => HugePages::Never,
        Some(_) => {
            log::warn!("transparent_hugepage= cannot parse, ignored");
            HugePages::Wanted
        }
    }
}

fn cma(cmdline: &Cmdline<'_>) -> Option<CmaRequest> {
    let param = cmdline.last("cma")?;
    let request = param.value.and_then(CmaRequest::parse);
    if request.is_none() {
        cmdline::malformed("cma");
    }
    request
}

fn fail_page_alloc(cmdline: &Cmdline<'_>) -> Option<FailSpec> {
    let text = cmdline.last("fail_page_alloc")?.value.unwrap_or("");
    let spec = FailSpec::parse(text);
    if spec.is_err() {
        log::warn!("FAULT_INJECTION: failed to parse arguments");
    }
    spec.ok()
}

fn zonelists(cmdline: &Cmdline<'_>) -> Zonelists {
    match cmdline.number("mminit_loglevel") {
        Ok(Some(1..)) => Zonelists::Logged,
        Ok(_) => Zonelists::Quiet,
        Err(_) => {
            cmdline::malformed("mminit_loglevel");
            Zonelists::Quiet
        }
    }
}
