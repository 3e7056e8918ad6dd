use super::*;
use crate::cmdline::Cmdline;
use proptest::prelude::*;
use std::vec::Vec;

fn parsed(text: &str) -> Vec<Result<Change, Invalid>> {
    Cmdline::new(text).params().filter_map(|param| changes(&param)).flatten().collect()
}

#[track_caller]
fn means(text: &str, want: &[Change]) {
    let want: Vec<_> = want.iter().map(|&change| Ok(change)).collect();
    assert_eq!(parsed(text), want, "{text}");
}

#[track_caller]
fn malformed(text: &str) {
    assert_eq!(parsed(text), [Err(Invalid::Malformed)], "{text}");
}

const G: u64 = 1 << 30;
const M: u64 = 1 << 20;

fn add(size_bytes: u64, start: u64, kind: u32) -> Change {
    Change::Add { start, size_bytes, kind: Kind::from_raw(kind) }
}

#[test]
fn a_bare_size_is_a_limit() {
    means("mem=512M", &[Change::Limit(512 * M)]);
    means("mem=0x20000000", &[Change::Limit(512 * M)]);
    means("mem=4k", &[Change::Limit(4096)]);
    means("memmap=1G", &[Change::Limit(G)]);
    means("memmap=0", &[Change::Limit(0)]);
    means("mem=15E", &[Change::Limit(15 << 60)]);
}

#[test]
fn the_sign_says_what_is_added() {
    means("memmap=64M@1G", &[add(64 * M, G, 1)]);
    means("memmap=64K#0x7fff0000", &[add(64 << 10, 0x7fff_0000, 3)]);
    means("memmap=64M$1G", &[add(64 * M, G, 2)]);
    means("memmap=2G!4G", &[add(2 * G, 4 * G, 12)]);
    means("memmap=639K@0", &[add(639 << 10, 0, 1)]);
    means("memmap=0@1G", &[add(0, G, 1)]);
    means("memmap=exactmap", &[Change::Exact]);
}

#[test]
fn percent_converts_adds_or_removes() {
    let (start, size_bytes) = (G, 16 * M);
    let (ram, pmem) = (Kind::RAM, Kind::PMEM);
    means("memmap=16M%1G-1+7", &[Change::Update { start, size_bytes, old: ram, new: pmem }]);
    means("memmap=16M%1G+7", &[add(size_bytes, start, 7)]);
    means("memmap=16M%1G-1", &[Change::Remove { start, size_bytes, old: Some(ram) }]);
    means("memmap=16M%1G", &[Change::Remove { start, size_bytes, old: None }]);
    means("memmap=16M%1G-0+0", &[Change::Remove { start, size_bytes, old: None }]);
    means("memmap=16M%1G-0+0xefffffff", &[add(size_bytes, start, 0xefff_ffff)]);
}

#[test]
fn a_list_and_several_options_keep_their_order() {
    let want = [Change::Exact, add(639 << 10, 0, 1), Change::Limit(G), add(M, G, 2), add(M, 0, 3)];
    means("memmap=exactmap,639K@0 mem=1G quiet memmap=1M$1G,1M#0", &want);
    let found = parsed("memmap=1M$1G,,bad,exactmap");
    let bad = Err(Invalid::Malformed);
    assert_eq!(found, [Ok(add(M, G, 2)), bad, bad, Ok(Change::Exact)]);
}

#[test]
fn what_has_no_meaning_is_malformed_as_a_whole() {
    for text in [
        "mem",
        "mem=",
        "mem=0",
        "mem=M",
        "mem=banana",
        "mem=512MB",
        "mem=1G,2G",
        "mem=-1",
        "mem=16E",
        "mem=99999999999999999999",
        "memmap",
        "memmap=",
        "memmap=@1G",
        "memmap=64M@",
        "memmap=64M@1Gx",
        "memmap=64M@1G@2G",
        "memmap=64M&1G",
        "memmap=64M\u{e9}1G",
        "memmap=16E@0",
        "memmap=1@99999999999999999999",
        "memmap=exactmaps",
        "memmap=16M%",
        "memmap=16M%1G-",
        "memmap=16M%1G+",
        "memmap=16M%1G-1-2",
        "memmap=16M%1G+2-1",
        "memmap=16M%1G-1+2+3",
        "memmap=16M%1G-1+1",
        "memmap=16M%1G+0x100000000",
    ] {
        malformed(text);
    }
    assert_eq!(parsed("mem=nopentium"), [Err(Invalid::NoPentium)]);
}

#[test]
fn other_options_say_nothing_about_the_map() {
    assert_eq!(parsed("memblock=debug mem_encrypt=on memory=1G xmem=1 -- mem=1G"), []);
}

proptest! {
    #[test]
    fn any_text_gives_a_change_a_part_or_none(text in "(mem|memmap)[=\"]?[-0-9a-zA-Z,@#$!%+= \u{e9}\0]{0,40}") {
        for param in Cmdline::new(&text).params() {
            let Some(found) = changes(&param) else { continue };
            let nr_parts = match param.name {
                "mem" => 1,
                _ => param.value.unwrap_or("").split(',').count(),
            };
            prop_assert_eq!(found.count(), nr_parts);
        }
    }

    #[test]
    fn ranges_come_back_as_written(start in any::<u64>(), size in any::<u64>(), old in 1u32.., new in any::<u32>()) {
        for (sign, kind) in [('@', Kind::RAM), ('#', Kind::ACPI), ('$', Kind::RESERVED), ('!', Kind::PRAM)] {
            let want = Change::Add { start, size_bytes: size, kind };
            prop_assert_eq!(parsed(&std::format!("memmap={size:#x}{sign}{start:#x}")), [Ok(want)]);
        }
        let converted = parsed(&std::format!("memmap={size}%{start}-{old}+{new:#x}"));
        let (old, kind) = (Kind::from_raw(old), Kind::from_raw(new));
        let want = match new {
            0 => Ok(Change::Remove { start, size_bytes: size, old: Some(old) }),
            _ if kind == old => Err(Invalid::Malformed),
            _ => Ok(Change::Update { start, size_bytes: size, old, new: kind }),
        };
        prop_assert_eq!(converted, [want]);
    }
}
