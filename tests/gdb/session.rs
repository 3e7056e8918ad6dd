//! gdb in batch mode, and a boot that it stops.

use boot::build::Package;
use boot::image::{Firmware, Kernel};
use boot::qemu::Machine;
use boot::run;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;
use wait_timeout::ChildExt;

/// A boot under gdb takes seconds; a machine that is busy with other things gets more.
const TIMEOUT: Duration = Duration::from_secs(300);

/// What gdb prints for these commands, without a kernel. Started outside of the repository: nothing may depend on where.
pub(crate) fn gdb(commands: &[&str]) -> String {
    let mut gdb = Command::new("gdb");
    gdb.current_dir("/").env("CARGO_TARGET_DIR", "/nonexistent");
    gdb.args(["-nx", "-batch", "-x"]).arg(boot::workspace::root().join("kernel/gdb/strata.py"));
    finish(gdb, commands)
}

/// Runs the commands after what `gdb` does anyway, and returns what it printed, errors among the rest.
fn finish(mut gdb: Command, commands: &[&str]) -> String {
    for command in commands {
        gdb.args(["-ex", command]);
    }
    // One file for both: errors stay where they belong.
    let mut output = tempfile::tempfile().unwrap();
    gdb.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
    let mut child = gdb.spawn().expect("gdb is installed by setup.sh");
    let ended = child.wait_timeout(TIMEOUT).unwrap().is_some();
    if !ended {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut bytes = Vec::new();
    output.rewind().unwrap();
    output.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(ended, "gdb has not ended within {TIMEOUT:?}: {text}");
    text
}

/// What is asked of a stopped boot: at its start, before memory is set up, while the second CPU is still in firmware, when
/// the workload's pages are all mapped, and when everything has been printed ([`AT_END`] first). What follows an `echo` is
/// the section of that name.
const STEPS: &[&str] = &[
    "echo \\n@early\\n",
    "mm nodes",
    "echo \\n@\\n",
    "thbreak kernel::memory::init",
    "continue",
    "echo \\n@before\\n",
    "mm cpus",
    "mm nodes",
    "mm zones",
    "mm counters",
    "mm free",
    "mm slabs",
    "mm vmas",
    "mm page 0",
    "echo \\n@\\n",
    "thbreak kernel::cpu::smp::bring_up",
    "continue",
    "echo \\n@alone cpus\\n",
    "mm cpus",
    "echo \\n@alone nodes\\n",
    "mm nodes",
    "echo \\n@\\n",
    "thread 2",
    "echo \\n@firmware nodes\\n",
    "mm nodes",
    "echo \\n@firmware page\\n",
    "mm page virt 0x7c00",
    "mm page phys $cr3",
    "mm vmas",
    "echo \\n@\\n",
    "thbreak kernel::memory::workload::done",
    "continue",
    "echo \\n@mapped cpus\\n",
    "mm cpus",
    "echo \\n@mapped vmas\\n",
    "mm vmas",
    "echo \\n@mapped nodes\\n",
    "mm nodes",
    "echo \\n@mapped zones\\n",
    "mm zones",
    "echo \\n@mapped counters\\n",
    "mm counters",
    "echo \\n@mapped slabs\\n",
    "mm slabs",
    "echo \\n@mapped pcp\\n",
    "mm free pcp",
    "echo \\n@pcp page\\n",
    "python gdb.execute('mm page ' + gdb.execute('mm free pcp', to_string=True).split()[-1])",
    "echo \\n@mapped pages\\n",
    "python vmas = gdb.execute('mm vmas', to_string=True).splitlines()",
    "python user = [vma for vma in vmas if 'rw-p' in vma][-1].split()[1]",
    "python gdb.execute('mm page ' + user)",
    "mm page phys $cr3",
    "mm page phys 0x7ffffff000000",
    "mm page 0x10",
    "mm page virt 0x10",
    "echo \\n@\\n",
    // The CPU that does not run the workload.
    "python hit = gdb.selected_thread()",
    "python [cpu for cpu in gdb.selected_inferior().threads() if cpu.num != hit.num][0].switch()",
    "echo \\n@other nodes\\n",
    "mm nodes",
    "echo \\n@other vmas\\n",
    "mm vmas all",
    "echo \\n@other refused\\n",
    "mm vmas",
    "python gdb.execute('mm page ' + user)",
    "echo \\n@\\n",
    "python hit.switch()",
];

/// What is asked when everything has been printed, of every machine.
const AT_END: &[&str] = &[
    "thbreak kernel::exit::success",
    "continue",
    "echo \\n@cpus\\n",
    "mm cpus",
    "echo \\n@vmas\\n",
    "mm vmas",
    "echo \\n@nodes\\n",
    "mm nodes",
    "echo \\n@zones\\n",
    "mm zones",
    "echo \\n@counters\\n",
    "mm counters",
    "echo \\n@free\\n",
    "mm free",
    "echo \\n@blocks\\n",
    "mm free blocks",
    "echo \\n@slabs\\n",
    "mm slabs",
    "echo \\n@\\n",
];

/// What is asked after that.
const PAGES: &[&str] = &[
    "echo \\n@slab page\\n",
    "python cache = gdb.execute('mm slabs', to_string=True).splitlines()[-1].split()[-1]",
    "python gdb.execute('mm page ' + cache)",
    "echo \\n@compound\\n",
    "python from strata import machine, pages",
    "python memory = machine.Memory()",
    "python first = memory.pfn_from([cache])",
    "python heads = (pfn for pfn in range(first, first + 8192) if 'HEAD' in pages.flag_names(memory.page(pfn)))",
    "python head = next(heads)",
    "python gdb.execute(f'mm page pfn {head}')",
    "python gdb.execute(f'mm page pfn {head + 1}')",
    "python print(pages.compound(memory, head))",
    "echo \\n@block\\n",
    "python blocks = gdb.execute('mm free blocks', to_string=True).splitlines()",
    "python gdb.execute('mm page ' + blocks[-1].split()[-1])",
    "python gdb.execute(f'mm page {int(blocks[-1].split()[-1], 16) + 1}')",
    "echo \\n@reserved\\n",
    "mm page 0",
    "mm page phys 0xfff",
    "mm page 0xffff888000000000",
    "mm page 0xffffea0000000000",
    "mm page &kernel::memory::MEMORY",
    "echo \\n@\\n",
];

/// Boots a machine, stops it at the places of the steps, and returns what gdb and the kernel printed.
fn stopped_boot(cmdline: &str, raw: &str, steps: &[&[&str]]) -> (String, String) {
    let kernel = Kernel::build(Package::Kernel).unwrap();
    let image = kernel.image(Firmware::Bios).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("gdb");
    let socket = socket.to_str().expect("a temporary directory's name is text");
    let mut machine = Machine { cmdline: cmdline.into(), ..Machine::default() };
    machine.raw = raw.split_whitespace().map(str::to_owned).collect();
    machine.raw.extend(["-S".to_owned(), "-gdb".to_owned(), format!("unix:{socket},server=on,wait=off")]);
    let mut child = machine.command(&image).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let console = thread::spawn(move || {
        let mut console = Vec::new();
        stdout.read_to_end(&mut console).map(|_| String::from_utf8_lossy(&console).into_owned())
    });
    while !Path::new(socket).exists() {
        assert!(child.try_wait().unwrap().is_none(), "QEMU has ended");
        thread::sleep(Duration::from_millis(50));
    }
    // The command line that `cargo run -- --gdb` prints, but for the machine that it finds.
    let mut gdb = Command::new("gdb");
    gdb.current_dir(boot::workspace::root()).env("STRATA_GDB", socket);
    gdb.args(["-nx", "-batch", "-x", "kernel/gdb/init.gdb"]).arg(&kernel.elf);
    let printed = finish(gdb, &[&steps.concat()[..], &["kill"]].concat());
    if child.wait_timeout(Duration::from_secs(10)).unwrap().is_none() {
        run::end(&mut child).unwrap();
    }
    (printed, console.join().unwrap().unwrap())
}

/// What gdb and the kernel printed on a machine with two CPUs, two nodes and contiguous memory: one boot for all tests.
pub(crate) fn boot_log() -> &'static (String, String) {
    static BOOT: LazyLock<(String, String)> = LazyLock::new(|| {
        let raw = "-m 1G -smp 2 -object memory-backend-ram,id=m0,size=512M -object memory-backend-ram,id=m1,size=512M \
                   -numa node,memdev=m0,cpus=0 -numa node,memdev=m1,cpus=1";
        stopped_boot("cma=16M dump=all poweroff", raw, &[STEPS, AT_END, PAGES])
    });
    &BOOT
}

/// Before the other CPUs are started, gdb gives the third an APIC id that nothing answers to.
const WITHOUT_CPU_2: &[&str] = &[
    "thbreak kernel::cpu::smp::bring_up",
    "continue",
    "python from strata import cpus",
    "python place = int(dict(cpus.slots())[2]['apic_id'].address)",
    "python gdb.selected_inferior().write_memory(place, (77).to_bytes(4, 'little'))",
];

/// The same of a machine with four CPUs, of which one does not answer; of its end only.
pub(crate) fn silent_cpu_log() -> &'static (String, String) {
    static BOOT: LazyLock<(String, String)> = LazyLock::new(|| {
        stopped_boot("dump=zoneinfo,node/has_cpu poweroff", "-smp 4", &[WITHOUT_CPU_2, AT_END])
    });
    &BOOT
}

/// The same of a machine with one CPU, to which another can be added, and four zones; of its end only.
pub(crate) fn one_cpu_log() -> &'static (String, String) {
    static BOOT: LazyLock<(String, String)> = LazyLock::new(|| {
        stopped_boot("movablecore=512M dump=all poweroff", "-m 5G -smp 1,maxcpus=2", &[AT_END])
    });
    &BOOT
}
