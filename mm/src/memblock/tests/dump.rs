//! What `memblock=debug` prints.

use super::*;
use crate::testlog::capture;

#[test]
fn the_dump_is_worded_as_linuxs() {
    let mut storage = Storage::new(8);
    let mut m = storage.memblock();
    m.add(r(0x1000, 0x9fc00)).unwrap();
    m.add_node(r(0x10_0000, 0x4000_0000), N1, Flags::HOTPLUG).unwrap();
    m.trim_memory(PAGE);
    let (_, log) = capture(|| m.dump_all());
    assert_eq!(log, [""; 0], "only when asked for");
    m.set_debug(Debug::On);
    let (_, log) = capture(|| {
        m.reserve(r(0, 0x1_0000)).unwrap();
        m.alloc(Request::pages(1).below(0x10_0000).on(OnNode::Prefer(N1))).unwrap();
        let at = m.alloc_in_range(Request::new(64).from(0x2_0000).below(0x3_0000)).unwrap();
        m.free(at).unwrap();
        m.alloc(Request::new(64).on(OnNode::Exact(NodeId(3)))).unwrap_err();
        m.dump_all();
    });
    let callers_cut: Vec<_> = log.iter().map(|l| l.split(" mm/src").next().unwrap()).collect();
    let want = [
        "memblock_reserve: [0x0000000000000000-0x000000000000ffff]",
        "memblock_alloc_try_nid_raw: 4096 bytes align=0x1000 nid=1 from=0x0000000000000000 max_addr=0x0000000000100000",
        "memblock_reserve: [0x000000000009e000-0x000000000009efff]",
        "memblock_phys_alloc_range: 64 bytes align=0x40 from=0x0000000000020000 max_addr=0x0000000000030000",
        "memblock_reserve: [0x000000000002ffc0-0x000000000002ffff]",
        "memblock_phys_free: [0x000000000002ffc0-0x000000000002ffff]",
        "memblock_alloc_exact_nid_raw: 64 bytes align=0x40 nid=3 from=0x0000000000000000 max_addr=0x0000000000000000",
        "MEMBLOCK configuration:",
        " memory size = 0x000000003ff9ec00 reserved size = 0x0000000000011000",
        " memory.cnt  = 0x2",
        " memory[0x0]\t[0x0000000000001000-0x000000000009efff], 0x000000000009e000 bytes flags: 0x0",
        " memory[0x1]\t[0x0000000000100000-0x000000003fffffff], 0x000000003ff00000 bytes on node 1 flags: 0x1",
        " reserved.cnt  = 0x2",
        " reserved[0x0]\t[0x0000000000000000-0x000000000000ffff], 0x0000000000010000 bytes flags: 0x0",
        " reserved[0x1]\t[0x000000000009e000-0x000000000009efff], 0x0000000000001000 bytes flags: 0x0",
    ];
    assert_eq!(callers_cut, want);
}

#[test]
fn each_operation_is_logged_as_linux_logs_it() {
    let (mut storage, mut slots) = (Storage::new(8), [Region::EMPTY; 4]);
    let sim = SimMachine::new(0x10000);
    let mut m = storage.growing(&sim);
    m.set_debug(Debug::On);
    m.keep_physmem(&mut slots);
    let (_, log) = capture(|| {
        m.add_physmem(r(0x1000, 0x10000)).unwrap();
        m.add(r(0x1000, 0x4000)).unwrap();
        m.add_node(r(0x4000, 0x10000), N1, Flags::HOTPLUG).unwrap();
        m.remove(r(0x1000, 0x2000)).unwrap();
        m.alloc_in_range(Request::pages(1).below(u64::MAX)).unwrap();
        m.alloc_in_range(Request::pages(1).on(OnNode::Exact(N1))).unwrap();
        m.alloc_zeroed(Request::new(8).align(8).from(0x3000).on(OnNode::Prefer(N0))).unwrap();
        m.alloc_slice(2, 0u64, OnNode::Any).unwrap();
        m.print();
    });
    let callers_cut: Vec<_> = log.iter().map(|l| l.split(" mm/src").next().unwrap()).collect();
    let want = [
        "memblock_physmem_add: [0x0000000000001000-0x000000000000ffff]",
        "memblock_add: [0x0000000000001000-0x0000000000003fff]",
        "memblock_add_node: [0x0000000000004000-0x000000000000ffff] nid=1 flags=1",
        "memblock_remove: [0x0000000000001000-0x0000000000001fff]",
        "memblock_phys_alloc_range: 4096 bytes align=0x1000 from=0x0000000000000000 max_addr=0xffffffffffffffff",
        "memblock_reserve: [0x000000000000f000-0x000000000000ffff]",
        "memblock_reserve: [0x000000000000e000-0x000000000000efff]",
        "memblock_alloc_try_nid: 8 bytes align=0x8 nid=0 from=0x0000000000003000 max_addr=0x0000000000000000",
        "memblock_reserve: [0x000000000000dff8-0x000000000000dfff]",
        "memblock_alloc_try_nid: 16 bytes align=0x40 nid=-1 from=0x0000000000000000 max_addr=0x0000000000000000",
        "memblock_reserve: [0x000000000000dfc0-0x000000000000dfcf]",
        "MEMBLOCK configuration:",
        " memory size = 0x000000000000e000 reserved size = 0x0000000000002018",
        " memory.cnt  = 0x2",
        " memory[0x0]\t[0x0000000000002000-0x0000000000003fff], 0x0000000000002000 bytes flags: 0x0",
        " memory[0x1]\t[0x0000000000004000-0x000000000000ffff], 0x000000000000c000 bytes on node 1 flags: 0x1",
        " reserved.cnt  = 0x2",
        " reserved[0x0]\t[0x000000000000dfc0-0x000000000000dfcf], 0x0000000000000010 bytes flags: 0x0",
        " reserved[0x1]\t[0x000000000000dff8-0x000000000000ffff], 0x0000000000002008 bytes flags: 0x0",
        " physmem.cnt  = 0x1",
        " physmem[0x0]\t[0x0000000000001000-0x000000000000ffff], 0x000000000000f000 bytes flags: 0x0",
    ];
    assert_eq!(callers_cut, want);
    let caller = log[1].rsplit(' ').next().unwrap();
    assert!(caller.starts_with("mm/src/memblock/tests/dump.rs:"), "{caller}");
}
