//! The machine under Strata's memory subsystem.
#![no_std]
