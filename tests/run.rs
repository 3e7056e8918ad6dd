//! What `cargo run` does, seen from outside: exit statuses and messages.
//!
//! The program under test is the host program in a process of its own: this file's binary again, told by an environment
//! variable to be `strata`, whose `main` is the same one line.

use boot::build::Package;
use boot::image::Kernel;
use boot::qemu::Machine;
use boot::run;
use libtest_mimic::{Arguments, Failed, Trial};
use std::env;
use std::io::Write;
use std::process::{Command, ExitCode, Output, Stdio};

/// Tells the binary whom to play.
const ROLE: &str = "STRATA_TEST_ROLE";

fn main() -> ExitCode {
    match env::var(ROLE).as_deref() {
        Ok("strata") => ExitCode::from(boot::cli::main(env::args_os())),
        Ok("panic") => boot_a_panic(),
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut add = |name: &str, test: fn() -> Result<(), Failed>| {
        trials.push(Trial::test(format!("run::{name}"), test));
    };
    usage(&mut add);
    options(&mut add);
    memory_maps(&mut add);
    work(&mut add);
    processors(&mut trials);
    // The struct pages alone are 14 GiB.
    trials.push(
        Trial::test("run::a_machine_of_900_gib_boots_with_its_memory_untouched", || {
            let flags = "-machine pc,memory-backend=ram0 -m 900G -object memory-backend-ram,id=ram0,size=900G,reserve=off";
            let run = strata(&format!("--timeout 600 --qemu-args '{flags}' -- dump=meminfo poweroff"))?.ends(0)?;
            run.prints("  Normal   [mem 0x0000000100000000-0x000000e13fffffff]")?;
            run.prints("MemTotal:       9289")
        })
        .with_ignored_flag(available_gib() < 18),
    );
    for (name, options) in [
        ("bios", "--firmware bios"),
        ("uefi", "--firmware uefi"),
        ("128m", "--memory 128M"),
        ("6g", "--memory 6G"),
        ("two_nodes", "--memory 4G --numa 2"),
        ("icount", "--icount"),
        ("icount_four_cpus", "--icount --smp 4"),
    ] {
        let name = format!("run::boot_dumps_its_files_and_powers_off_with_status_0_{name}");
        trials.push(Trial::test(name, move || {
            let run = strata(&format!("{options} --timeout 240 -- dump=all poweroff"))?.ends(0)?;
            for file in ["zoneinfo", "buddyinfo", "slabinfo", "meminfo", "vmallocinfo", "iomem"] {
                run.prints(&format!("--- begin /proc/{file} ---"))?;
                run.prints(&format!("--- end /proc/{file} ---"))?;
            }
            run.prints("--- begin /sys/devices/system/node/node0/meminfo ---")?;
            // What is mapped in the fixmap, then by ioremap.
            run.prints("IOAPIC[0]: apic_id 0, version 32, address 0xfec00000, GSI 0-23")?;
            run.prints("ACPI: HPET id: 0x8086a201 base: 0xfed00000")?;
            run.prints("hpet0: 3 comparators, 64-bit 100.000000 MHz counter")?;
            for device in DEVICES {
                run.prints(device)?;
            }
            Ok(())
        }));
    }
    trials
}

/// Machines with several CPUs: how many run, which files have how many.
fn processors(trials: &mut Vec<Trial>) {
    const NODES_8: &str = "--smp 8 --memory 1G --numa 8";
    for (name, machine, options, nr) in [
        ("one", "--smp 1", "", 1),
        ("two", "--smp 2", "", 2),
        ("four", "--smp 4", "", 4),
        ("four_uefi", "--smp 4 --firmware uefi", "", 4),
        ("sixteen", "--smp 16", "", 16),
        ("sixty_four", "--smp 64 --memory 1G", "", 64),
        ("on_eight_nodes", NODES_8, "", 8),
        ("nr_cpus_2", "--smp 4", "nr_cpus=2", 2),
        ("maxcpus_1", "--smp 4", "maxcpus=1", 1),
        ("maxcpus_3", "--smp 4", "maxcpus=3", 3),
        ("maxcpus_0", "--smp 4", "maxcpus=0", 1),
        ("nosmp", "--smp 4", "nosmp", 1),
    ] {
        trials.push(Trial::test(format!("run::cpus_are_started_{name}"), move || {
            let run =
                strata(&format!("{machine} --timeout 300 -- {options} dump=zoneinfo,node/has_cpu poweroff"))?;
            let run = run.ends(0)?;
            let (nodes, ending) = if machine == NODES_8 { ("8 nodes", "s") } else { ("1 node", "s") };
            let ending = if nr == 1 { "" } else { ending };
            run.prints(&format!("smp: Brought up {nodes}, {nr} CPU{ending}\n"))?;
            run.prints(&format!("    cpu: {}\n", nr - 1))?;
            run.prints_not(&format!("    cpu: {nr}\n"))?;
            run.prints_not("failed to start")
        }));
    }
    trials.push(Trial::test("run::options_of_cpus_that_make_no_sense_are_reported", || {
        let run = strata("--timeout 240 -- nr_cpus=0 maxcpus=many possible_cpus=some poweroff")?.ends(0)?;
        run.prints("Malformed early option 'nr_cpus'")?;
        run.prints("Malformed early option 'maxcpus'")?;
        run.prints("Malformed early option 'possible_cpus'")
    }));
    trials.push(Trial::test("run::as_many_cpus_are_possible_as_linux_has_at_most", || {
        let run = strata("--smp 4 --memory 2G --timeout 300 -- possible_cpus=8192 dump=zoneinfo poweroff")?;
        let run = run.ends(0)?;
        run.prints("smpboot: Allowing 8192 CPUs, 8188 hotplug CPUs")?;
        run.prints("smp: Brought up 1 node, 4 CPUs")?;
        run.prints("    cpu: 3\n")?;
        run.prints_not("    cpu: 4\n")
    }));
    trials.push(Trial::test("run::cpus_that_could_be_plugged_in_count_as_possible", || {
        let run =
            strata("--timeout 240 --qemu-args '-smp 1,maxcpus=8' -- dump=zoneinfo poweroff")?.ends(0)?;
        run.prints("smpboot: Allowing 8 CPUs, 7 hotplug CPUs")?;
        run.prints("SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=8, Nodes=1")?;
        run.prints_not("    cpu: 1\n")
    }));
}

/// The host program itself.
fn usage(add: &mut impl FnMut(&str, fn() -> Result<(), Failed>)) {
    add("bad_usage_ends_with_status_2_and_says_why", bad_usage);
    add("too_little_memory_is_refused", || {
        strata("--memory 8M")?.ends(2)?.says("too little")?;
        strata("--qemu-args '-m 8M'")?.ends(2)?.says("too little")?;
        strata("--firmware uefi --memory 48M")?.ends(2)?.says("too little")
    });
    add("help_explains_every_option", || {
        let options =
            "--memory --smp --numa --firmware --cpu --gdb --icount --timeout --initramfs --disk --qemu-args";
        let help = strata("--help")?.ends(0)?;
        options.split(' ').try_for_each(|option| help.prints(option))
    });
    add("the_timeout_ends_with_status_124", || {
        strata("--timeout 2 --qemu-args -S")?.ends(124)?.says("within 2 s")
    });
    add("what_qemu_refuses_ends_with_status_1", || {
        strata("--timeout 60 --qemu-args '-device flux-capacitor'")?.ends(1)?.says("flux-capacitor")
    });
    add("a_panic_ends_with_status_1", || {
        let output = play("panic", "", Stdio::null())?;
        output.ends(1)?.prints("a planted assertion")
    });
}

/// Options of the kernel.
fn options(add: &mut impl FnMut(&str, fn() -> Result<(), Failed>)) {
    add("malformed_and_unknown_kernel_options_are_reported_and_the_boot_goes_on", || {
        let options = "loglevel=abc memblock=x numa=banana dump=nosuch foo bar=\"baz qux\" poweroff";
        let run = strata(&format!("--timeout 240 -- '{options}'"))?.ends(0)?;
        for name in ["loglevel", "memblock", "numa"] {
            run.prints(&format!("Malformed early option '{name}'"))?;
        }
        run.prints("Unknown kernel command line parameters \"foo bar=\"baz qux\"\"")?;
        run.prints("dump: no file named 'nosuch'")?;
        strata("--timeout 240 -- 'poweroff dump \"not ended'")?
            .ends(0)?
            .prints("Malformed early option 'dump'")
    });
    add("benchmarks_print_a_line_for_each_figure", || {
        let cases = "bench=page_o0_pair,page_o3_x64,page_o4_x64_free,nosuch";
        let run = strata(&format!("--icount --timeout 240 -- {cases} poweroff"))?.ends(0)?;
        run.prints("bench: no case named 'nosuch'")?;
        for figure in ["o0_pair", "o3_x64_alloc", "o3_x64_free", "o3_x64_both", "o4_x64_free"] {
            run.prints(&format!("bench page_{figure} "))?;
        }
        match run.prints("bench page_o4_x64_alloc") {
            Ok(()) => Err("a figure that nobody asked for".into()),
            Err(_) => Ok(()),
        }
    });
    add("ignore_loglevel_wins_over_what_comes_after_it", || {
        let run = strata("--timeout 240 -- ignore_loglevel quiet loglevel=1 loglevel=0 poweroff")?.ends(0)?;
        run.prints("Malformed early option 'loglevel'")?;
        run.prints("BIOS-provided physical RAM map:")
    });
    add("settings_of_the_command_line_are_in_force_after_boot", || {
        let settings = "sysctl.vm.min_free_kbytes=65536 sysctl.vm.percpu_pagelist_high_fraction=100 \
            \"sysctl.vm.lowmem_reserve_ratio=64 16 8 0 0\" sysctl.vm.nosuch=1 sysctl.vm.watermark_scale_factor=0";
        let options =
            "movablecore=256M kernelcore=1% mminit_loglevel=1 loglevel=8 transparent_hugepage=never";
        let boot = format!(
            "--memory 2G --smp 2 --timeout 240 -- '{options} {settings} dump=zoneinfo,sys/vm poweroff'"
        );
        let run = strata(&boot)?.ends(0)?;
        run.prints("Failed to set sysctl parameter 'vm.nosuch=1': parameter not found")?;
        run.prints("Failed to set sysctl parameter 'vm.watermark_scale_factor=0': invalid value")?;
        run.prints("  Node 0: 0x0000000070000000")?;
        run.prints("mminit::zonelist general 0:Movable = 0:Movable 0:DMA32 0:DMA ")?;
        run.prints("--- begin /proc/sys/vm/min_free_kbytes ---\n65536\n--- end")?;
        // DMA keeps a 64th, not a 256th, of what DMA32 manages; the two CPUs share a hundredth of DMA's 3840 pages.
        run.prints("protection: (0, 7")?;
        run.prints("              high:  19\n")
    });
    add("the_state_of_memory_is_logged_where_it_is_asked_for", || {
        let run =
            strata("--memory 1G --numa 2 --smp 2 --timeout 300 -- cma=16M dump=show_mem,zoneinfo poweroff")?;
        let run = run.ends(0)?;
        run.prints_in_order(&[
            "Mem-Info:\n",
            " active_anon:0 inactive_anon:",
            " free_cma:",
            " Node 0 active_anon:",
            " all_unreclaimable? no\n",
            " Node 1 active_anon:",
            " Node 0 DMA free:",
            " lowmem_reserve[]: 0 ",
            " Node 1 DMA32 free:",
            " Node 0 DMA: ",
            " Node 1 DMA32: ",
            "*4096kB (",
            " Node 1 hugepages_total=0 ",
            " total pagecache pages\n",
            " pages RAM\n",
            " pages reserved\n",
            "--- begin /proc/zoneinfo ---\n",
        ])?;
        let (present, managed) = (run.sum("\n        present  "), run.sum("\n        managed  "));
        run.prints(&format!("] {present} pages RAM\n"))?;
        run.prints(&format!("] {} pages reserved\n", present - managed))
    });
    add("all_debugging_of_pages_goes_together_and_dumps_all_files", || {
        for more in ["page_poison=on", "init_on_free=1"] {
            let options = format!("debug_pagealloc=on debug_guardpage_minorder=2 page_owner=on {more}");
            let boot =
                format!("--memory 128M --smp 2 --timeout 300 -- {options} dump=all,page_owner poweroff");
            let run = strata(&boot)?.ends(0)?;
            run.prints("Setting debug_guardpage_minorder to 2")?;
            run.prints("SLUB: HWalign=64, Order=0-0, MinObjects=0, CPUs=2, Nodes=1")?;
            run.prints("DirectMap2M:           0 kB")?;
            run.prints("--- end /sys/kernel/debug/page_owner ---")?;
        }
        Ok(())
    });
    add("debugging_of_pages_that_makes_no_sense_is_reported_and_the_boot_goes_on", || {
        let options = "debug_pagealloc=perhaps debug_guardpage_minorder=6 debug_guardpage_minorder=x";
        let run = strata(&format!("--timeout 240 -- {options} dump=meminfo poweroff"))?.ends(0)?;
        run.prints("Malformed early option 'debug_pagealloc'")?;
        run.prints("Bad debug_guardpage_minorder value")?;
        run.prints("SLUB: HWalign=64, Order=0-3")?;
        run.prints_not("DirectMap2M:           0 kB")
    });
    add("malformed_sizes_of_movable_memory_are_reported_and_the_boot_goes_on", || {
        let run = strata("--timeout 240 -- kernelcore=101% movablecore=x movable_node poweroff")?.ends(0)?;
        run.prints("Malformed early option 'kernelcore'")?;
        run.prints("Malformed early option 'movablecore'")
    });
}

/// Memory maps of the command line.
fn memory_maps(add: &mut impl FnMut(&str, fn() -> Result<(), Failed>)) {
    add("the_command_lines_memory_map_is_the_one_that_counts", || {
        let map = "memmap=exactmap,639K@0,127M@1M memmap=64K#130M memmap=16M!4G mem=oops memmap=1M$";
        let run = strata(&format!("--memory 1G --timeout 240 -- '{map} dump=iomem poweroff'"))?.ends(0)?;
        run.prints("Malformed early option 'mem'")?;
        run.prints("Malformed early option 'memmap'")?;
        run.prints("user-defined physical RAM map:")?;
        run.prints("user: [mem 0x0000000000100000-0x0000000007ffffff] usable")?;
        run.prints("user: [mem 0x0000000100000000-0x0000000100ffffff] persistent (type 12)")?;
        run.prints("last_pfn = 0x8000 max_arch_pfn = 0x400000000")?;
        run.prints("0009fc00-0009ffff : RAM buffer\n")?;
        run.prints("00100000-07ffffff : System RAM\n")?;
        run.prints("08200000-0820ffff : ACPI Tables\n")?;
        run.prints("100000000-100ffffff : Persistent Memory (legacy)\n")
    });
    add("the_kernel_boots_when_the_command_line_takes_its_own_memory_away", || {
        let run = strata("--firmware uefi --timeout 240 -- 'mem=64M dump=iomem poweroff'")?.ends(0)?;
        run.prints("e820: remove [mem 0x04000000-0xfffffffffffffffe] usable")?;
        run.prints(".text .data .bss are not marked as E820_TYPE_RAM!")?;
        run.prints("00900000-03ffffff : System RAM")
    });
    add("memory_that_only_the_command_line_knows_of_is_looked_at_first", || {
        let run = strata("--memory 512M --timeout 240 -- 'memmap=6G@0 memmap=1G@64T poweroff'")?.ends(0)?;
        run.prints("user: [mem 0x0000000000100000-0x000000001ffdffff] usable")?;
        run.prints("e820: no memory at [mem 0x20000000-")?;
        // The frame buffer keeps what is written: it is taken for memory, and must not stop decoding.
        run.prints("its memory at 0xfd000000 is used as RAM")?;
        run.prints("e820: no memory at [mem 0x400000000000-0x40003fffffff]")
    });
    add("the_struct_pages_find_room_where_no_2_mib_are_in_one_piece", || {
        // A page of each 2 MiB is reserved.
        let holes: Vec<String> = (2..128).step_by(2).map(|mib| format!("4K${mib}M")).collect();
        let run = strata(&format!("--memory 128M --timeout 240 -- 'memmap={} poweroff'", holes.join(",")))?
            .ends(0)?;
        run.prints("Struct pages: 32768 initialised")
    });
    add("a_memory_map_with_too_little_memory_ends_the_run_and_says_so", || {
        strata("--timeout 240 -- mem=4K poweroff")?
            .ends(1)?
            .prints("Memory cannot be set up: too little memory")
    });
}

/// What boot spends.
fn work(add: &mut impl FnMut(&str, fn() -> Result<(), Failed>)) {
    add("boot_spends_on_a_page_at_most_half_of_linuxs_instructions", || {
        for machine in ["--memory 512M", "--memory 4G"] {
            let run = strata(&format!("{machine} --icount --timeout 240 -- poweroff"))?.ends(0)?;
            let (init, nr_pages) = run.ticks_and_pages("Struct pages: ")?;
            let (hand_over, _) = run.ticks_and_pages("Hand-over: ")?;
            let each = (init + hand_over) as f64 / nr_pages as f64;
            run.check(each <= LINUX_BOOT_TICKS_PER_PAGE / 2.0, &format!("fewer ticks a page than {each}"))?;
        }
        Ok(())
    });
}

/// What Linux 6.1 spends on initialising a struct page (55.0) and freeing it to the buddy allocator (25.3) at boot, in
/// instructions under icount.
const LINUX_BOOT_TICKS_PER_PAGE: f64 = 80.3;

/// Memory of the host that a test may use.
fn available_gib() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|kib| kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()).map_or(0, |kib| kib >> 20)
}
/// Lines of `/proc/iomem` on each of QEMU's `pc`, as Linux shows them; the graphics adapter is placed by the firmware.
const DEVICES: [&str; 8] = [
    "\n000a0000-000bffff : PCI Bus 0000:00\n",
    "000f0000-000fffff : System ROM\n",
    "-febfffff : PCI Bus 0000:00\n  ",
    " : 0000:00:02.0\n",
    "\nfec00000-fec003ff : IOAPIC 0\n",
    "\nfed00000-fed003ff : HPET 0\n  fed00000-fed003ff : PNP0103:00\n",
    "\nfee00000-fee00fff : Local APIC\n",
    "fffffff : PCI Bus 0000:00\n",
];

fn bad_usage() -> Result<(), Failed> {
    for (line, why) in [
        ("--smp 0", "1..=255"),
        ("--memory 12X", "no unit"),
        ("--memory 1G --numa 1G,1G", "add up"),
        ("--firmware coreboot", "coreboot"),
        ("--timeout soon", "soon"),
        ("--initramfs /nonexistent", "/nonexistent"),
        ("--disk /nonexistent", "/nonexistent"),
        ("--frobnicate", "--frobnicate"),
        ("poweroff", "poweroff"),
    ] {
        strata(line)?.ends(2)?.says(why)?;
    }
    Ok(())
}

/// Boots the in-kernel tests with one that panics, like `cargo run` does.
fn boot_a_panic() -> ExitCode {
    let run = || -> anyhow::Result<run::Outcome> {
        let kernel = Kernel::build(Package::KernelTests)?;
        let mut selection = tempfile::NamedTempFile::new()?;
        selection.write_all(harness::protocol::selection(["planted::fails_an_assertion"]).as_bytes())?;
        let files = vec![(harness::protocol::SELECTION_FILE.to_owned(), selection.path().to_owned())];
        let machine = Machine { files, ..Machine::default() };
        run::run(&machine, &kernel.image(machine.firmware)?, None)
    };
    match run() {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(99)
        }
    }
}

/// How a run has ended, and what it has printed.
struct Run {
    line: String,
    output: Output,
}

fn strata(line: &str) -> Result<Run, Failed> {
    play("strata", line, Stdio::null())
}

fn play(role: &str, line: &str, stdin: Stdio) -> Result<Run, Failed> {
    let words = line.split('\'').enumerate().flat_map(|(i, part)| match i % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    let output = Command::new(env::current_exe()?).args(words).env(ROLE, role).stdin(stdin).output()?;
    Ok(Run { line: line.to_owned(), output })
}

impl Run {
    fn ends(self, status: i32) -> Result<Run, Failed> {
        self.check(self.output.status.code() == Some(status), &format!("status {status}"))?;
        Ok(self)
    }

    /// On standard error.
    fn says(&self, text: &str) -> Result<(), Failed> {
        self.check(String::from_utf8_lossy(&self.output.stderr).contains(text), text)
    }

    /// On standard output, where the console is.
    fn prints(&self, text: &str) -> Result<(), Failed> {
        self.check(String::from_utf8_lossy(&self.output.stdout).contains(text), text)
    }

    /// Nowhere on standard output.
    fn prints_not(&self, text: &str) -> Result<(), Failed> {
        let found = String::from_utf8_lossy(&self.output.stdout).contains(text);
        self.check(!found, &format!("anything but {text:?}"))
    }

    /// On standard output, each behind the one before.
    fn prints_in_order(&self, texts: &[&str]) -> Result<(), Failed> {
        let all = String::from_utf8_lossy(&self.output.stdout);
        let mut rest = &*all;
        for text in texts {
            self.check(rest.contains(*text), &format!("{text:?} in its place"))?;
            rest = rest.split_once(*text).map_or("", |(_, behind)| behind);
        }
        Ok(())
    }

    /// What stands behind each `key` on standard output, added.
    fn sum(&self, key: &str) -> u64 {
        let text = String::from_utf8_lossy(&self.output.stdout);
        let numbers =
            text.split(key).skip(1).filter_map(|rest| rest.lines().next()?.trim().parse::<u64>().ok());
        numbers.sum()
    }

    /// The ticks and pages of a line of boot's work.
    fn ticks_and_pages(&self, what: &str) -> Result<(u64, u64), Failed> {
        let text = String::from_utf8_lossy(&self.output.stdout);
        let line = text.lines().find_map(|line| line.split_once(what)).map(|(_, rest)| rest);
        let mut numbers = line.unwrap_or("").split(' ').filter_map(|word| word.parse().ok());
        match (numbers.next(), numbers.next()) {
            (Some(pages), Some(ticks)) => Ok((ticks, pages)),
            _ => Err(format!("no line {what:?} with two numbers").into()),
        }
    }

    fn check(&self, holds: bool, wanted: &str) -> Result<(), Failed> {
        if holds {
            return Ok(());
        }
        let Output { status, stdout, stderr } = &self.output;
        let (stdout, stderr) = (String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
        Err(format!("`{}`: wanted {wanted}, got {status}\n{stdout}\n{stderr}", self.line).into())
    }
}
