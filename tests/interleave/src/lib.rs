//! Files of `mm` whose atomics are a model checker's: `loom` runs a test once for each order in which its threads can
//! take their turns, and for each value that a relaxed load may see.
//!
//! ```text
//! mm/src/page/refs.rs  -- use super::atomic -->  mm/src/page/atomic.rs     core's atomics: the product
//!         ^ #[path]                              page::atomic, here        loom's
//!         +------------------------------------  page::refs
//! ```
//! A file is checked so when it takes everything that can race from one sibling (`super::atomic`) and nothing else of
//! `mm`. To add another, give that sibling a twin here and include the file; what stands around it in the product (locks,
//! interrupts, calls to other CPUs) is modelled beside the tests, as [`frame`] does it for memory.

pub mod frame;
pub mod page;
