//! What helps when something goes wrong: panics, backtraces, function names, and which stacks there are.

pub mod backtrace;
pub mod panic;
pub mod stacks;
pub mod symbols;
pub mod tracer;
