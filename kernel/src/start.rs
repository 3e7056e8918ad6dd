//! From the boot loader's jump to the workload: one column of named steps.
//!
//! ```text
//! loader: long mode, all physical memory at the direct map's place, kernel mapped, interrupts off
//!   -> _start (entry!) -> start: per-CPU area, own stack -> boot: the column -> after
//! ```

use core::arch::asm;

use bootloader_api::BootInfo;
use bootloader_api::config::{BootloaderConfig, Mapping};
use mm::arch::layout::DIRECT_MAP;
use mm::cmdline::Cmdline;

use crate::cpu::{apic, call, features, percpu, pic, smp, tables};
use crate::debug::{stacks, symbols};
use crate::firmware::{acpi, boot::Boot, fw_cfg::FwCfg};
use crate::{cmdline, console, exit, memory, thread};

/// What the boot loader shall do: map physical memory where our direct map will be, and keep its own dynamic mappings
/// (stack, boot information, ramdisk, framebuffer) in the kernel's half, in a part that we use for nothing.
pub static BOOTLOADER_CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.mappings.physical_memory = Some(Mapping::FixedAddress(DIRECT_MAP));
    config.mappings.dynamic_range_start = Some(0xffff_f000_0000_0000);
    config.mappings.dynamic_range_end = Some(0xffff_fdff_ffff_ffff);
    config.kernel_stack_size = 32 * 1024;
    config
};

/// Makes `$after` (a `fn(&Kernel) -> !`) what the boot ends with, and the crate a bootable image.
#[macro_export]
macro_rules! entry {
    ($after:path) => {
        fn __start(info: &'static mut ::bootloader_api::BootInfo) -> ! {
            $crate::start(info, $after)
        }
        ::bootloader_api::entry_point!(__start, config = &$crate::BOOTLOADER_CONFIG);
    };
}

/// The booted kernel, as the workload gets it.
#[derive(Debug)]
pub struct Kernel {
    /// What the boot loader handed over; its memory may be gone by now.
    pub boot: Boot,
    /// QEMU's configuration device, where there is one.
    pub fw_cfg: Option<FwCfg>,
    /// The command line.
    pub cmdline: Cmdline<'static>,
    /// What the boot CPU can do.
    pub features: features::Features,
    /// The memory subsystem.
    pub memory: &'static memory::Memory,
}

/// Starts the kernel on the boot CPU; `after` gets it when it has booted.
pub fn start(info: &'static mut BootInfo, after: fn(&Kernel) -> !) -> ! {
    percpu::init_boot_cpu();
    // SAFETY: the boot stack is unused, and nothing on the loader's stack is needed any more: `info` is not on it.
    unsafe {
        asm!(
            "mov rsp, {stack}",
            // Frame pointers end here.
            "xor ebp, ebp",
            "call {boot}",
            "ud2",
            stack = in(reg) stacks::boot_stack().end,
            boot = sym boot,
            in("rdi") core::ptr::from_mut(info),
            in("rsi") after as usize,
            options(noreturn),
        )
    }
}

#[expect(
    improper_ctypes_definitions,
    reason = "a function pointer is one register, whatever its own convention"
)]
extern "C" fn boot(info: &'static mut BootInfo, after: fn(&Kernel) -> !) -> ! {
    // SAFETY: this is the boot CPU, each is called once, and no other CPU runs yet.
    unsafe {
        tables::init_boot_cpu();
        tables::init_idt();
        thread::init();
    }
    pic::init();
    console::clock::start();
    console::init();
    let boot = Boot::new(info);
    let fw_cfg = FwCfg::probe();
    // SAFETY: called once, and no other CPU runs.
    let cmdline = unsafe { cmdline::init(fw_cfg.as_ref()) };
    cmdline::apply_loglevel(&cmdline);
    banner(&cmdline);
    load_symbols(&boot);
    let features = require_features();
    console::clock::calibrate();
    let acpi = acpi::Tables::init(&boot);
    let memory = init_memory(&boot, &cmdline, &features, acpi.as_ref());
    // SAFETY: called once, and no other CPU runs; the fixmap works since memory does.
    unsafe { apic::init_boot_cpu() };
    start_threads(memory);
    // Now that waiting makes sense, for other threads and for other CPUs.
    memory.pages.set_cpus(&call::Interrupts);
    memory.pages.set_running();
    if let Err(error) = memory::percpu::start_balancing(memory) {
        log::error!("percpu: pages are not balanced: {error:?}");
    }
    smp::bring_up(memory, &features, memory.max_cpus);
    memory::cpus_changed(memory);
    memory::sysctl::apply(memory, &cmdline);
    cmdline::report_unknown(&cmdline);
    after(&Kernel { boot, fw_cfg, cmdline, features, memory })
}

/// Without memory there is nothing that the kernel could do: says why, and ends the run.
fn init_memory(
    boot: &Boot,
    cmdline: &Cmdline<'static>,
    features: &features::Features,
    acpi: Option<&acpi::Tables>,
) -> &'static memory::Memory {
    match memory::init(boot, cmdline, features, acpi) {
        Ok(memory) => memory,
        Err(error) => {
            console::emergency_line(format_args!("Memory cannot be set up: {error}"));
            exit::failure()
        }
    }
}

/// From here on the timer ticks, interrupts are on, and boot goes on as a thread like others.
fn start_threads(memory: &'static memory::Memory) {
    if let Err(error) = thread::start(memory) {
        console::emergency_line(format_args!("Threads cannot be started: {error:?}"));
        exit::failure()
    }
}

fn banner(cmdline: &Cmdline<'_>) {
    log::info!("Strata version {}", env!("CARGO_PKG_VERSION"));
    log::info!("Command line: {}", cmdline.text());
}

fn load_symbols(boot: &Boot) {
    let Some(table) = boot.ramdisk() else {
        log::warn!("No symbol table: backtraces show addresses only");
        return;
    };
    if let Err(error) = symbols::init(table) {
        log::warn!("Bad symbol table ({error:?}): backtraces show addresses only");
    }
}

fn require_features() -> features::Features {
    match features::detect() {
        Ok(features) => {
            features::enable(&features);
            features::log_name();
            features
        }
        Err(missing) => {
            console::emergency_line(format_args!(
                "This kernel requires the following features not present on the CPU: {missing}"
            ));
            exit::failure()
        }
    }
}
