//! `cargo run --bin bench-table`: boots the kernel with `bench=all`, and prints what its operations cost beside what
//! Linux's do, in instructions. With `--update` the table also goes into `README.md`, in place of the one there.

use anyhow::{Context, Result, bail};
use boot::build::Package;
use boot::image::{Firmware, Kernel};
use boot::qemu::Machine;
use boot::run::Outcome;
use boot::size::Size;
use boot::workspace;
use harness::console::{self, Patience};
use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

/// Linux's figures: case, as shipped, without what Debian switches on.
const LINUX: &str = include_str!("../../bench/linux.tsv");
/// What the table in the README stands between.
const BEGIN: &str = "<!-- bench-table -->\n";
const END: &str = "<!-- end of bench-table -->\n";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let update = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--update"] => true,
        _ => {
            eprintln!("usage: cargo run --bin bench-table [-- --update]");
            return ExitCode::from(2);
        }
    };
    match run(update) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(update: bool) -> Result<()> {
    let table = table(&measure()?)?;
    print!("{table}");
    if update {
        let path = workspace::root().join("README.md");
        let readme = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        fs::write(&path, replaced(&readme, &table)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Boots on the machine that Linux was measured on; ticks by case.
fn measure() -> Result<HashMap<String, f64>> {
    let machine = Machine {
        memory: Size::mib(2048),
        smp: Some(1),
        icount: true,
        cmdline: "bench=all poweroff".to_owned(),
        ..Machine::default()
    };
    let image = Kernel::build(Package::Kernel)?.image(Firmware::Bios)?;
    let (mut figures, mut log) = (HashMap::new(), String::new());
    let outcome = console::follow(&machine, &image, Duration::from_secs(600), |line| {
        log.push_str(line);
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["bench", case, ticks] = words[..] {
            figures.insert(case.to_owned(), ticks.parse().with_context(|| line.to_owned())?);
        }
        Ok(Patience::AsBefore)
    })?;
    match outcome {
        Outcome::Success => Ok(figures),
        outcome => bail!("{outcome}:\n{log}"),
    }
}

/// The cases that both have, in Linux's order, as Markdown.
fn table(ours: &HashMap<String, f64>) -> Result<String> {
    let mut table = String::from("| case | Linux | fair | Strata | of fair |\n|---|---:|---:|---:|---:|\n");
    // Behind a heading of remarks and the fields' names.
    for line in LINUX.lines().filter(|line| !line.starts_with('#')).skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [case, linux, fair] = fields[..] else { bail!("{line:?} has not three fields") };
        let Some(ticks) = ours.get(case) else { continue };
        let least: f64 = fair.parse().with_context(|| line.to_owned())?;
        let ratio = if least > 0.0 { format!("{:.2}", ticks / least) } else { "-".to_owned() };
        writeln!(table, "| `{case}` | {linux} | {fair} | {ticks:.1} | {ratio} |")?;
    }
    Ok(table)
}

/// `readme` with `table` in place of its own.
fn replaced(readme: &str, table: &str) -> Result<String> {
    let around = readme
        .split_once(BEGIN)
        .and_then(|(before, rest)| rest.split_once(END).map(|(_, after)| (before, after)));
    let Some((before, after)) = around else { bail!("README.md has no place for the table") };
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_the_cases_that_both_measured() {
        let ours = [("page_o0_pair", 70.19), ("cache64_pair", 226.9), ("of_our_own", 1.0)];
        let ours = ours.map(|(case, ticks)| (case.to_owned(), ticks)).into();
        let table = table(&ours).unwrap();
        assert_eq!(
            table.lines().skip(2).collect::<Vec<_>>(),
            [
                "| `page_o0_pair` | 1233.9 | 701.9 | 70.2 | 0.10 |",
                "| `cache64_pair` | 257.9 | 226.9 | 226.9 | 1.00 |"
            ]
        );
    }

    #[test]
    fn a_new_table_takes_the_old_ones_place() {
        let readme = |table: &str| format!("before\n{BEGIN}{table}{END}after\n");
        assert_eq!(replaced(&readme("old\n"), "new\n").unwrap(), readme("new\n"));
        assert!(replaced("nothing\n", "new\n").is_err());
    }
}
