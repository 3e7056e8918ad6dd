//! Every fuzz target over its seeds, their broken copies and mutations of them: `fuzz::TARGET`.
//!
//! The same inputs in each run. An input that fails is printed as a seed.

use fuzz::Target;
use fuzz::mutate::{Rng, mutated};
use fuzz::seeds::{self, Seed};
use libtest_mimic::{Arguments, Failed, Trial};
use std::panic::catch_unwind;
use std::process::ExitCode;

/// Mutations of each target.
const MUTATIONS: usize = 4000;

fn main() -> ExitCode {
    fuzz::format_log_lines();
    let trials = fuzz::TARGETS
        .iter()
        .map(|target| Trial::test(format!("fuzz::{}", target.name), move || replay(target)))
        .collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn replay(target: &Target) -> Result<(), Failed> {
    let seeds = seeds::of(target.name);
    if seeds.is_empty() {
        return Err("the target has no seeds".into());
    }
    for Seed { name, bytes } in &seeds {
        run(target, bytes, name)?;
    }
    for Seed { name, bytes } in &seeds {
        let origin = format!("a part of {name}");
        (0..bytes.len()).try_for_each(|len| run(target, &bytes[..len], &origin))?;
        let origin = format!("{name} with a byte changed");
        let mut broken = bytes.clone();
        for at in 0..bytes.len() {
            for new in [0, 0xff, bytes[at] ^ 1, bytes[at] ^ 0x80] {
                broken[at] = new;
                run(target, &broken, &origin)?;
            }
            broken[at] = bytes[at];
        }
    }
    let bytes: Vec<_> = seeds.into_iter().map(|seed| seed.bytes).collect();
    let mut rng = Rng::new(target.name.len() as u64);
    (0..MUTATIONS).try_for_each(|_| run(target, &mutated(&mut rng, &bytes), "a mutation"))
}

fn run(target: &Target, input: &[u8], origin: &str) -> Result<(), Failed> {
    catch_unwind(|| (target.run)(input)).map_err(|_| {
        let hex: Vec<_> = input.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{origin} fails; to keep it, put this into a .hex file:\n{}", hex.join(" ")).into()
    })
}
