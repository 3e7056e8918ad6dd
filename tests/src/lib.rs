//! The host side of the in-kernel tests: boots the suites and reports each of their tests by name.
//!
//! ```text
//! strata-ktests (ELF) --registry--> names --trials--> libtest-mimic: one trial a test and machine
//!                                               |  first trial that runs starts the boots
//! machines --------------------------------> runner: boot, read the serial line, boot again for what is left
//!                                               |
//!                          session <- protocol <- console: lines to verdicts
//! ```

pub mod console;
pub mod machines;
pub mod protocol;
pub mod registry;
pub mod runner;
pub mod session;
pub mod trials;
