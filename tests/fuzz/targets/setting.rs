//! The files of /proc/sys/vm: a text that is taken can be read back and taken again; one that is not changes nothing.
//!
//! Input: a byte that chooses the file, then the text.

use mm::zone::{OutOfRange, Setting, Sysctl};

use crate::input::Input;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let setting = Setting::ALL[usize::from(input.u8()) % Setting::ALL.len()];
    let text = String::from_utf8_lossy(input.rest());
    let mut sysctl = Sysctl::default();
    match setting.store(&mut sysctl, &text) {
        Err(OutOfRange) => assert_eq!(sysctl, Sysctl::default(), "{text:?} left something behind"),
        Ok(()) => {
            let shown = show(setting, &sysctl);
            let mut again = Sysctl::default();
            assert_eq!(setting.store(&mut again, &shown), Ok(()), "{shown:?}");
            assert_eq!(again, sysctl);
            in_range(&sysctl);
        }
    }
    assert_eq!(Setting::named(setting.name()), Some(setting));
}

fn show(setting: Setting, sysctl: &Sysctl) -> String {
    let mut text = String::new();
    setting.show(sysctl, &mut text).expect("a string takes everything");
    assert!(text.ends_with('\n') && text.lines().count() == 1);
    text
}

fn in_range(sysctl: &Sysctl) {
    assert!((1..=3000).contains(&sysctl.watermark_scale_factor));
    assert!(sysctl.min_free_kbytes <= i32::MAX as u64);
    assert!(!(1..8).contains(&sysctl.percpu_pagelist_high_fraction));
    assert!(sysctl.lowmem_reserve_ratio.iter().all(|&ratio| ratio <= i32::MAX as u32));
}
