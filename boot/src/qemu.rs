//! A machine to boot on, and the call of `qemu-runner.sh` that makes it.

use crate::image::Firmware;
use crate::numa::Topology;
use crate::size::Size;
use crate::workspace;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A machine, and what its kernel is handed over.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What boots the disk image.
    pub firmware: Firmware,
    /// RAM.
    pub memory: Size,
    /// CPUs; none for the runner's default.
    pub smp: Option<u32>,
    /// QEMU's CPU model; none for the runner's default.
    pub cpu: Option<String>,
    /// NUMA nodes; empty for a machine without NUMA tables.
    pub topology: Topology,
    /// One instruction is one TSC tick.
    pub icount: bool,
    /// Stopped until gdb attaches.
    pub gdb: bool,
    /// The kernel's command line.
    pub cmdline: String,
    /// Files handed over by fw_cfg: `opt/strata/NAME` and the path.
    pub files: Vec<(String, PathBuf)>,
    /// Virtio block devices.
    pub disks: Vec<PathBuf>,
    /// QEMU flags that come last.
    pub raw: Vec<String>,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine {
            firmware: Firmware::Bios,
            memory: Size::mib(512),
            smp: None,
            cpu: None,
            topology: Topology::default(),
            icount: false,
            gdb: false,
            cmdline: String::new(),
            files: Vec::new(),
            disks: Vec::new(),
            raw: Vec::new(),
        }
    }
}

impl Machine {
    /// The command that boots `image` on this machine, with the serial console on its standard input and output.
    ///
    /// The command becomes QEMU itself (same process), and ends when the thread that starts it ends.
    pub fn command(&self, image: &Path) -> Command {
        let mut command = Command::new(workspace::root().join("qemu-runner.sh"));
        command.arg("--die-with-parent").args(["--firmware", self.firmware.name()]);
        command.arg("--memory").arg(self.memory.to_string());
        if let Some(smp) = self.smp {
            command.arg("--smp").arg(smp.to_string());
        }
        if let Some(cpu) = &self.cpu {
            command.args(["--cpu", cpu]);
        }
        for node in &self.topology.nodes {
            let cpus = node.cpus.as_ref().map(|cpus| format!(",{cpus}")).unwrap_or_default();
            command.arg("--node").arg(format!("{}{cpus}", node.memory));
        }
        for (from, to, value) in &self.topology.distances {
            command.arg("--distance").arg(format!("{from},{to},{value}"));
        }
        if self.icount {
            command.arg("--icount");
        }
        if self.gdb {
            command.arg("--gdb");
        }
        if !self.cmdline.is_empty() {
            command.args(["--cmdline", &self.cmdline]);
        }
        for (name, path) in &self.files {
            let mut file = std::ffi::OsString::from(format!("{name}="));
            file.push(path);
            command.arg("--file").arg(file);
        }
        for disk in &self.disks {
            command.arg("--disk").arg(disk);
        }
        command.arg(image).arg("--").args(&self.raw);
        command
    }

    /// The memory that QEMU will give the machine: the last `-m` of the raw flags wins.
    pub fn memory_in_effect(&self) -> Option<Size> {
        let mut memory = Some(self.memory);
        for pair in self.raw.windows(2).filter(|pair| matches!(pair[0].as_str(), "-m" | "--m")) {
            // `-m 1G`, `-m size=1G`, `-m 1G,slots=2,maxmem=4G`; QEMU judges what cannot be read here.
            let mut options = pair[1].split(',');
            let size = options.clone().find_map(|option| option.strip_prefix("size=")).or(options.next());
            memory = size.and_then(|size| size.parse().ok());
        }
        memory
    }

    /// Whether the boot loader can work in the machine's memory; if not, why.
    pub fn check_memory(&self) -> Result<(), String> {
        let least = least_memory(self.firmware);
        match self.memory_in_effect() {
            Some(memory) if memory < least => Err(format!(
                "{memory} of memory is too little: the boot loader needs {least} under {}",
                match self.firmware {
                    Firmware::Bios => "BIOS",
                    Firmware::Uefi => "UEFI",
                }
            )),
            _ => Ok(()),
        }
    }
}

/// Found by experiment: the loader puts the kernel at 16 MiB under BIOS; OVMF itself wants more than that.
fn least_memory(firmware: Firmware) -> Size {
    match firmware {
        Firmware::Bios => Size::mib(32),
        Firmware::Uefi => Size::mib(64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dry_run(machine: &Machine) -> Vec<String> {
        let mut command = machine.command(Path::new("/dev/null"));
        let program = command.get_program().to_owned();
        let args: Vec<_> = command.get_args().map(|arg| arg.to_owned()).collect();
        command = Command::new(program);
        command.arg("--dry-run").args(args).env("OVMF_CODE", "/dev/null").env("QEMU", "true");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        shell_words::split(&String::from_utf8(output.stdout).unwrap()).unwrap()
    }

    #[track_caller]
    fn has(line: &[String], flag: &str, value: &str) {
        let found = line.windows(2).any(|pair| pair[0] == flag && pair[1] == value);
        assert!(found, "{flag} {value} not in {line:?}");
    }

    #[test]
    fn the_default_machine_has_two_cpus_and_512_mib() {
        let line = dry_run(&Machine::default());
        has(&line, "-m", "512M");
        has(&line, "-smp", "2");
        has(&line, "-cpu", "max,la57=off");
        has(&line, "-accel", "tcg,thread=multi");
        assert!(line.contains(&"-no-reboot".to_owned()));
    }

    #[test]
    fn icount_runs_one_cpu_unless_told_otherwise() {
        let line = dry_run(&Machine { icount: true, ..Machine::default() });
        has(&line, "-icount", "shift=0,sleep=off");
        has(&line, "-accel", "tcg,thread=single");
        has(&line, "-smp", "1");
        has(&dry_run(&Machine { icount: true, smp: Some(3), ..Machine::default() }), "-smp", "3");
    }

    #[test]
    fn commas_and_spaces_reach_the_kernel() {
        let machine = Machine { cmdline: "dump=a,b  \"x y\" poweroff".into(), ..Machine::default() };
        has(&dry_run(&machine), "-fw_cfg", "name=opt/strata/cmdline,string=dump=a,,b  \"x y\" poweroff");
    }

    #[test]
    fn nodes_become_memory_objects_and_distances() {
        let spec: crate::numa::Spec = "1G,0@21".parse().unwrap();
        let topology = spec.topology(Size::mib(1024), 2).unwrap();
        let line = dry_run(&Machine { memory: Size::mib(1024), topology, ..Machine::default() });
        has(&line, "-object", "memory-backend-ram,id=node0,size=1G,reserve=off");
        has(&line, "-numa", "node,nodeid=0,cpus=0,memdev=node0");
        has(&line, "-numa", "node,nodeid=1,cpus=1");
        has(&line, "-numa", "dist,src=1,dst=0,val=21");
    }

    #[test]
    fn raw_flags_come_last() {
        let raw = ["-m", "6G", "-device", "x"].map(str::to_owned).to_vec();
        let line = dry_run(&Machine { raw: raw.clone(), firmware: Firmware::Uefi, ..Machine::default() });
        assert_eq!(line[line.len() - 4..], raw);
    }

    #[track_caller]
    fn memory(raw: &str, wanted: Option<u32>) {
        let machine = Machine { raw: shell_words::split(raw).unwrap(), ..Machine::default() };
        assert_eq!(machine.memory_in_effect(), wanted.map(Size::mib));
    }

    #[test]
    fn the_last_raw_memory_flag_is_in_effect() {
        memory("", Some(512));
        memory("-smp 4 -m 8M", Some(8));
        memory("-m 8 -m size=1G,slots=2,maxmem=4G", Some(1024));
        memory("-m maxmem=4G,size=1G", Some(1024));
        memory("-m 16000000K -m lots", None);
        let small = Machine { raw: vec!["-m".into(), "8M".into()], ..Machine::default() };
        assert!(small.check_memory().unwrap_err().contains("too little"));
    }
}
