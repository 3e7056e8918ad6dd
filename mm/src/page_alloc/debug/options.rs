//! Which debugging options are on: from the command line, as Linux reads and reports them.

use crate::cmdline::Cmdline;

bitflags::bitflags! {
    /// Debugging options of the page allocator.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct DebugOptions: u8 {
        /// `init_on_alloc=`: every block is zeroed when it is allocated.
        const INIT_ON_ALLOC = 1 << 0;
        /// `init_on_free=`: every block is zeroed when it is freed.
        const INIT_ON_FREE = 1 << 1;
        /// `page_poison=`: free pages have a pattern in them, which is checked when they are allocated.
        const POISON = 1 << 2;
        /// `page_owner=`: who allocates and frees each page is recorded.
        const OWNER = 1 << 3;
        /// `debug_pagealloc=`: free pages are not mapped.
        const PAGEALLOC = 1 << 4;
    }
}

/// The options and their names.
const NAMES: [(DebugOptions, &str); 5] = [
    (DebugOptions::INIT_ON_ALLOC, "init_on_alloc"),
    (DebugOptions::INIT_ON_FREE, "init_on_free"),
    (DebugOptions::POISON, "page_poison"),
    (DebugOptions::OWNER, "page_owner"),
    (DebugOptions::PAGEALLOC, "debug_pagealloc"),
];

impl DebugOptions {
    /// What the command line asks for. Each option is a switch (Linux: `kstrtobool`); the name of one that is none goes to
    /// `malformed`, and it is off.
    pub fn from_cmdline(cmdline: &Cmdline<'_>, mut malformed: impl FnMut(&str)) -> Self {
        let mut all = Self::empty();
        for (option, name) in NAMES {
            match cmdline.switch(name) {
                Ok(on) => all.set(option, on == Some(true)),
                Err(_) => malformed(name),
            }
        }
        all
    }

    /// What of it can be had: poison would be overwritten by zeroes, so it goes before them; says so, and what memory is
    /// like when it changes hands (Linux: `init_mem_debugging_and_hardening`, `report_meminit`).
    pub fn settle(self) -> Self {
        let zeroed = Self::INIT_ON_ALLOC | Self::INIT_ON_FREE;
        let mut settled = self;
        if self.contains(Self::POISON) && self.intersects(zeroed) {
            log::info!(
                "mem auto-init: CONFIG_PAGE_POISONING is on, will take precedence over init_on_alloc and init_on_free"
            );
            settled -= zeroed;
        }
        let on = |option| if settled.contains(option) { "on" } else { "off" };
        log::info!(
            "mem auto-init: stack:off, heap alloc:{}, heap free:{}",
            on(Self::INIT_ON_ALLOC),
            on(Self::INIT_ON_FREE)
        );
        if settled.contains(Self::INIT_ON_FREE) {
            log::info!("mem auto-init: clearing system memory may take some time...");
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testlog::capture;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn parse(text: &str) -> (DebugOptions, Vec<String>) {
        let mut malformed = Vec::new();
        let options =
            DebugOptions::from_cmdline(&Cmdline::new(text), |name| malformed.push(name.to_string()));
        (options, malformed)
    }

    #[test]
    fn each_option_is_a_switch_and_the_last_one_wins() {
        for (option, name) in NAMES {
            for (value, on) in
                [("1", true), ("on", true), ("y", true), ("0", false), ("off", false), ("n", false)]
            {
                let wanted = if on { option } else { DebugOptions::empty() };
                assert_eq!(parse(&std::format!("{name}={value}")), (wanted, Vec::new()), "{name}={value}");
            }
            assert_eq!(parse(&std::format!("{name}=on {name}=off")).0, DebugOptions::empty());
            for text in [name.to_string(), std::format!("{name}="), std::format!("{name}=perhaps")] {
                assert_eq!(parse(&text), (DebugOptions::empty(), std::vec![name.to_string()]), "{text}");
            }
        }
        assert_eq!(parse(""), (DebugOptions::empty(), Vec::new()));
    }

    #[test]
    fn poison_goes_before_zeroes() {
        let all = DebugOptions::all() - DebugOptions::POISON;
        let (settled, lines) = capture(|| all.settle());
        assert_eq!(settled, all);
        assert_eq!(
            lines,
            [
                "mem auto-init: stack:off, heap alloc:on, heap free:on",
                "mem auto-init: clearing system memory may take some time..."
            ]
        );
        let (settled, lines) = capture(|| DebugOptions::all().settle());
        assert_eq!(settled, DebugOptions::all() - DebugOptions::INIT_ON_ALLOC - DebugOptions::INIT_ON_FREE);
        assert!(lines[0].contains("will take precedence over init_on_alloc and init_on_free"));
        assert_eq!(lines[1..], ["mem auto-init: stack:off, heap alloc:off, heap free:off"]);
    }

    proptest! {
        #[test]
        fn any_command_line_is_taken(text in "(init_on_alloc|page_poison|page_owner|init-on-free|=|on|off| |1|x){0,12}") {
            let (options, malformed) = parse(&text);
            prop_assert!(malformed.len() <= NAMES.len());
            for name in malformed {
                let (option, _) = NAMES.into_iter().find(|(_, known)| *known == name).unwrap();
                prop_assert!(!options.contains(option));
            }
        }
    }
}
