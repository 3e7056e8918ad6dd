//! One of the fuzz targets under libFuzzer: the environment says which. `tests/fuzz/run` is the way to start it.
//!
//! - `STRATA_FUZZ_TARGET`: the target's name; without it, the names are printed.
//! - `STRATA_FUZZ_SEEDS`: a directory that the target's seeds are written to before libFuzzer reads it.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;
use std::{env, fs, process};

use fuzz::Target;

static TARGET: OnceLock<&Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        fuzz::format_log_lines();
        let target = choose();
        TARGET.get_or_init(|| target);
    },
    |bytes: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(bytes);
        }
    }
);

fn choose() -> &'static Target {
    let wanted = env::var("STRATA_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = fuzz::target(&wanted) else {
        fuzz::TARGETS.iter().for_each(|target| println!("{}", target.name));
        process::exit(2);
    };
    if let Some(directory) = env::var_os("STRATA_FUZZ_SEEDS") {
        for seed in fuzz::seeds::of(target.name) {
            fs::write(Path::new(&directory).join(seed.name), seed.bytes).expect("the directory for the seeds");
        }
    }
    target
}
