//! Settings that change at run time: `sysctl.vm.NAME=VALUE` on the command line, as if written to `/proc/sys/vm/NAME`.

use mm::cmdline::Cmdline;
use mm::page_alloc::NumaStat;
use mm::zone::Setting;

use super::{Memory, with_cpus};

/// Why a value was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There is no setting of that name.
    NotFound,
    /// The setting does not take that value.
    Invalid,
}

/// Sets one, and what is computed from it. Takes the settings' lock.
///
/// # Errors
/// See [`Error`]; nothing changes then.
pub fn set(memory: &Memory, name: &str, value: &str) -> Result<(), Error> {
    let setting = Setting::named(name).ok_or(Error::NotFound)?;
    let mut sysctl = memory.sysctl.lock();
    with_cpus(&memory.numa, |cpus| memory.pages.nodes().set(setting, value, &mut sysctl, cpus))
        .map_err(|_| Error::Invalid)?;
    match setting {
        Setting::NumaStat => {
            memory.pages.set_numa_stat(if sysctl.numa_stat == 0 { NumaStat::Off } else { NumaStat::On });
        }
        Setting::StatInterval => memory.stat_interval.set(sysctl.stat_interval),
        _ => {}
    }
    Ok(())
}

/// Sets what the command line says, in its order; what cannot be set is reported (Linux: `do_sysctl_args`).
pub fn apply(memory: &Memory, cmdline: &Cmdline<'_>) {
    for param in cmdline.params() {
        // Directories may be written with dots or slashes.
        let Some(path) = param.name.strip_prefix("sysctl.").or_else(|| param.name.strip_prefix("sysctl/"))
        else {
            continue;
        };
        let value = param.value.unwrap_or("");
        let name = path.strip_prefix("vm.").or_else(|| path.strip_prefix("vm/"));
        match name.ok_or(Error::NotFound).and_then(|name| set(memory, name, value)) {
            Ok(()) => {}
            Err(Error::NotFound) => {
                log::error!("Failed to set sysctl parameter '{path}={value}': parameter not found");
            }
            Err(Error::Invalid) => {
                log::error!("Failed to set sysctl parameter '{path}={value}': invalid value");
            }
        }
    }
}
