//! Machines with tables of our own, and those whose command line changes what becomes of QEMU's.

use super::super::Machine;

// Data, not code.
#[rustfmt::skip]
pub(super) const MACHINES: &[Machine] = &[
    Machine {
        name: "srat-badslit",
        numa: &[],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0x7ffdffff, 1),
            (0x7ffe0000, 0x7fffffff, 2), (0xfffc0000, 0xffffffff, 2), (0xfd00000000, 0xffffffffff, 2)],
        srat: Some("\
            53524154a0000000037151454d55514551454d5551454d550100000051454d5501000000010000000000000000000000\
            012800000000000000000000000000000000004000000000000000000100000000000000000000000128010000000000\
            000000400000000000000040000000000000000001000000000000000000000000100000010000000000000000000000\
            00100101010000000000000000000000"),
        slit: Some("534c49543000000001c951454d55514551454d5551454d550100000051454d550100000002000000000000000a14141e"),
        apic: Some("\
            41504943800000000177424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            010000000008010101000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009\
            090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0xfffff), (0x1000000, 0x3810fff), (0x3ffd5000, 0x3fffffff),
            (0x7ff46000, 0x7ff70fff), (0x7ff71000, 0x7ffdffff), (0x7ffe0000, 0x7ffe1bdc)],
        memory: &[(0x1000, 0x9efff, 0x0, 0), (0x100000, 0x3fffffff, 0x0, 0),
            (0x40000000, 0x7ffdffff, 0x0, 1)],
        log: &[
            "SRAT: PXM 0 -> APIC 0x00 -> Node 0",
            "SRAT: PXM 1 -> APIC 0x01 -> Node 1",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x3fffffff]",
            "ACPI: SRAT: Node 1 PXM 1 [mem 0x40000000-0x7fffffff]",
            "ACPI: SLIT table looks invalid. Not used.",
        ],
        possible: &[0, 1], online: &[0, 1], has_memory: &[0, 1], cpu_nodes: &[0, 1],
        distances: &[&[10, 20], &[20, 10]],
    },
    Machine {
        name: "srat-hole",
        numa: &[],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0xbffdffff, 1),
            (0xbffe0000, 0xbfffffff, 2), (0xfffc0000, 0xffffffff, 2), (0x100000000, 0x13fffffff, 1),
            (0xfd00000000, 0xffffffffff, 2)],
        srat: Some("\
            53524154a0000000037151454d55514551454d5551454d550100000051454d5501000000010000000000000000000000\
            012800000000000000000000000000000000008000000000000000000100000000000000000000000128010000000000\
            000000c00000000000000080000000000000000001000000000000000000000000100000010000000000000000000000\
            00100101010000000000000000000000"),
        slit: Some("534c49543000000001dd51454d55514551454d5551454d550100000051454d550100000002000000000000000a14140a"),
        apic: Some("\
            41504943800000000177424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            010000000008010101000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009\
            090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0xfffff), (0x1000000, 0x3810fff), (0xbff71000, 0xbffe1bdc),
            (0x13ffd3000, 0x13fffdfff), (0x13fffe000, 0x13fffffff)],
        memory: &[(0x1000, 0x9efff, 0x0, 0), (0x100000, 0xbffdffff, 0x0, 0),
            (0x100000000, 0x13fffffff, 0x0, 0)],
        log: &[
            "SRAT: PXM 0 -> APIC 0x00 -> Node 0",
            "SRAT: PXM 1 -> APIC 0x01 -> Node 1",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x7fffffff]",
            "ACPI: SRAT: Node 1 PXM 1 [mem 0xc0000000-0x13fffffff]",
            "NUMA: Initialized distance table, cnt=2",
            "NUMA: nodes only cover 3071MB of your 4095MB e820 RAM. Not used.",
            "No NUMA configuration found",
            "Faking a node at [mem 0x0000000000000000-0x000000013fffffff]",
        ],
        possible: &[0], online: &[0], has_memory: &[0], cpu_nodes: &[0, 0],
        distances: &[&[10]],
    },
    Machine {
        name: "srat-hotplug-movable",
        numa: &[],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0xbffdffff, 1),
            (0xbffe0000, 0xbfffffff, 2), (0xfffc0000, 0xffffffff, 2), (0x100000000, 0x1bfffffff, 1),
            (0xfd00000000, 0xffffffffff, 2)],
        srat: Some("\
            53524154a000000003ae51454d55514551454d5551454d550100000051454d5501000000010000000000000000000000\
            01280000000000000000000000000000000000c000000000000000000100000000000000000000000128010000000000\
            0000000001000000000000c0000000000000000003000000000000000000000000100000010000000000000000000000\
            00100101010000000000000000000000"),
        slit: Some("534c49543000000001dd51454d55514551454d5551454d550100000051454d550100000002000000000000000a14140a"),
        apic: Some("\
            41504943800000000177424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            010000000008010101000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009\
            090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0x100003), (0x1000000, 0x3810fff), (0xbff1b000, 0xbff70fff),
            (0xbff71000, 0xbffe1bdc)],
        memory: &[(0x1000, 0x9efff, 0x0, 0), (0x100000, 0xbffdffff, 0x0, 0),
            (0x100000000, 0x1bfffffff, 0x1, 1)],
        log: &[
            "SRAT: PXM 0 -> APIC 0x00 -> Node 0",
            "SRAT: PXM 1 -> APIC 0x01 -> Node 1",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0xbfffffff]",
            "ACPI: SRAT: Node 1 PXM 1 [mem 0x100000000-0x1bfffffff] hotplug",
            "NUMA: Initialized distance table, cnt=2",
        ],
        possible: &[0, 1], online: &[0, 1], has_memory: &[0, 1], cpu_nodes: &[0, 1],
        distances: &[&[10, 20], &[20, 10]],
    },
    Machine {
        name: "srat-hotplug",
        numa: &[],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0xbffdffff, 1),
            (0xbffe0000, 0xbfffffff, 2), (0xfffc0000, 0xffffffff, 2), (0x100000000, 0x1bfffffff, 1),
            (0xfd00000000, 0xffffffffff, 2)],
        srat: Some("\
            53524154a000000003ae51454d55514551454d5551454d550100000051454d5501000000010000000000000000000000\
            01280000000000000000000000000000000000c000000000000000000100000000000000000000000128010000000000\
            0000000001000000000000c0000000000000000003000000000000000000000000100000010000000000000000000000\
            00100101010000000000000000000000"),
        slit: Some("534c49543000000001dd51454d55514551454d5551454d550100000051454d550100000002000000000000000a14140a"),
        apic: Some("\
            41504943800000000177424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            010000000008010101000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009\
            090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0xfffff), (0x1000000, 0x3810fff), (0xbff46000, 0xbff70fff),
            (0xbff71000, 0xbffe1bdc), (0x1bffd2000, 0x1bfffcfff), (0x1bfffd000, 0x1bfffd003),
            (0x1bfffe000, 0x1bfffffff)],
        memory: &[(0x1000, 0x9efff, 0x0, 0), (0x100000, 0xbffdffff, 0x0, 0),
            (0x100000000, 0x1bfffffff, 0x0, 1)],
        log: &[
            "SRAT: PXM 0 -> APIC 0x00 -> Node 0",
            "SRAT: PXM 1 -> APIC 0x01 -> Node 1",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0xbfffffff]",
            "ACPI: SRAT: Node 1 PXM 1 [mem 0x100000000-0x1bfffffff] hotplug",
            "NUMA: Initialized distance table, cnt=2",
        ],
        possible: &[0, 1], online: &[0, 1], has_memory: &[0, 1], cpu_nodes: &[0, 1],
        distances: &[&[10, 20], &[20, 10]],
    },
    Machine {
        name: "srat-interleave",
        numa: &[],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0xbffdffff, 1),
            (0xbffe0000, 0xbfffffff, 2), (0xfffc0000, 0xffffffff, 2), (0x100000000, 0x13fffffff, 1),
            (0xfd00000000, 0xffffffffff, 2)],
        srat: Some("\
            53524154f000000003cb51454d55514551454d5551454d550100000051454d5501000000010000000000000000000000\
            012800000000000000000000000000000000004000000000000000000100000000000000000000000128010000000000\
            000000400000000000000040000000000000000001000000000000000000000001280000000000000000008000000000\
            000000400000000000000000010000000000000000000000012801000000000000000000010000000000004000000000\
            000000000100000000000000000000000010000001000000000000000000000000100101010000000000000000000000"),
        slit: Some("534c49543000000001dd51454d55514551454d5551454d550100000051454d550100000002000000000000000a14140a"),
        apic: Some("\
            41504943800000000177424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            010000000008010101000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009\
            090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0xfffff), (0x1000000, 0x3810fff), (0xbff46000, 0xbff70fff),
            (0xbff71000, 0xbffe1c2c), (0x13ffd2000, 0x13fffcfff), (0x13fffd000, 0x13fffd003),
            (0x13fffe000, 0x13fffffff)],
        memory: &[(0x1000, 0x9efff, 0x0, 0), (0x100000, 0x3fffffff, 0x0, 0),
            (0x40000000, 0x7fffffff, 0x0, 1), (0x80000000, 0xbffdffff, 0x0, 0),
            (0x100000000, 0x13fffffff, 0x0, 1)],
        log: &[
            "SRAT: PXM 0 -> APIC 0x00 -> Node 0",
            "SRAT: PXM 1 -> APIC 0x01 -> Node 1",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x3fffffff]",
            "ACPI: SRAT: Node 1 PXM 1 [mem 0x40000000-0x7fffffff]",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x80000000-0xbfffffff]",
            "ACPI: SRAT: Node 1 PXM 1 [mem 0x100000000-0x13fffffff]",
            "NUMA: Initialized distance table, cnt=2",
        ],
        possible: &[0, 1], online: &[0, 1], has_memory: &[0, 1], cpu_nodes: &[0, 1],
        distances: &[&[10, 20], &[20, 10]],
    },
    Machine {
        name: "srat-outoforder",
        numa: &[],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0xbffdffff, 1),
            (0xbffe0000, 0xbfffffff, 2), (0xfffc0000, 0xffffffff, 2), (0x100000000, 0x13fffffff, 1),
            (0xfd00000000, 0xffffffffff, 2)],
        srat: Some("\
            53524154c8000000039e51454d55514551454d5551454d550100000051454d5501000000010000000000000000000000\
            012801000000000000000000000000000000004000000000000000000100000000000000000000000128000000000000\
            000000000100000000000040000000000000000001000000000000000000000001280000000000000000004000000000\
            000000800000000000000000010000000000000000000000001000000100000000000000000000000010010101000000\
            0000000000000000"),
        slit: Some("534c49543000000001dd51454d55514551454d5551454d550100000051454d550100000002000000000000000a14140a"),
        apic: Some("\
            41504943800000000177424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            010000000008010101000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009\
            090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0xfffff), (0x1000000, 0x3810fff), (0x3ffd5000, 0x3fffffff),
            (0xbff71000, 0xbffe1c04), (0x13ffd2000, 0x13fffcfff), (0x13fffd000, 0x13fffd003),
            (0x13fffe000, 0x13fffffff)],
        memory: &[(0x1000, 0x9efff, 0x0, 1), (0x100000, 0x3fffffff, 0x0, 1),
            (0x40000000, 0xbffdffff, 0x0, 0), (0x100000000, 0x13fffffff, 0x0, 0)],
        log: &[
            "SRAT: PXM 0 -> APIC 0x00 -> Node 0",
            "SRAT: PXM 1 -> APIC 0x01 -> Node 1",
            "ACPI: SRAT: Node 1 PXM 1 [mem 0x00000000-0x3fffffff]",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x100000000-0x13fffffff]",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x40000000-0xbfffffff]",
            "NUMA: Initialized distance table, cnt=2",
            "NUMA: Node 0 [mem 0x100000000-0x13fffffff] + [mem 0x40000000-0xbfffffff] -> [mem 0x40000000-0x13fffffff]",
        ],
        possible: &[0, 1], online: &[0, 1], has_memory: &[0, 1], cpu_nodes: &[0, 1],
        distances: &[&[10, 20], &[20, 10]],
    },
    Machine {
        name: "srat-overlap",
        numa: &[],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0x7ffdffff, 1),
            (0x7ffe0000, 0x7fffffff, 2), (0xfffc0000, 0xffffffff, 2), (0xfd00000000, 0xffffffffff, 2)],
        srat: Some("\
            53524154a0000000036151454d55514551454d5551454d550100000051454d5501000000010000000000000000000000\
            012800000000000000000000000000000000005000000000000000000100000000000000000000000128010000000000\
            000000400000000000000040000000000000000001000000000000000000000000100000010000000000000000000000\
            00100101010000000000000000000000"),
        slit: Some("534c49543000000001dd51454d55514551454d5551454d550100000051454d550100000002000000000000000a14140a"),
        apic: Some("\
            41504943800000000177424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            010000000008010101000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009\
            090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0xfffff), (0x1000000, 0x3810fff), (0x7ff46000, 0x7ff70fff),
            (0x7ff71000, 0x7ffdffff), (0x7ffe0000, 0x7ffe1bdc)],
        memory: &[(0x1000, 0x9efff, 0x0, 0), (0x100000, 0x7ffdffff, 0x0, 0)],
        log: &[
            "SRAT: PXM 0 -> APIC 0x00 -> Node 0",
            "SRAT: PXM 1 -> APIC 0x01 -> Node 1",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x4fffffff]",
            "ACPI: SRAT: Node 1 PXM 1 [mem 0x40000000-0x7fffffff]",
            "NUMA: Initialized distance table, cnt=2",
            "node 0 [mem 0x00000000-0x4fffffff] overlaps with node 1 [mem 0x40000000-0x7ffdffff]",
            "No NUMA configuration found",
            "Faking a node at [mem 0x0000000000000000-0x000000007ffdffff]",
        ],
        possible: &[0], online: &[0], has_memory: &[0], cpu_nodes: &[0, 0],
        distances: &[&[10]],
    },
    Machine {
        name: "cmd-numaoff",
        numa: &["off"],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0xbffdffff, 1),
            (0xbffe0000, 0xbfffffff, 2), (0xfffc0000, 0xffffffff, 2), (0x100000000, 0x1bfffffff, 1),
            (0xfd00000000, 0xffffffffff, 2)],
        srat: Some("\
            53524154f00000000191424f434853204258504320202020010000004258504301000000010000000000000000000000\
            001000000100000000000000000000000010010101000000000000000000000001280000000000000000000000000000\
            00000a000000000000000000010000000000000000000000012800000000000000001000000000000000f07f00000000\
            000000000100000000000000000000000128010000000000000000800000000000000040000000000000000001000000\
            000000000000000001280100000000000000000001000000000000c00000000000000000010000000000000000000000"),
        slit: Some("534c49543000000001e8424f43485320425850432020202001000000425850430100000002000000000000000a15150a"),
        apic: Some("\
            41504943800000000177424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            010000000008010101000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009\
            090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0xfffff), (0x1000000, 0x3810fff), (0xbff71000, 0xbffe1c38),
            (0x1bffd3000, 0x1bfffdfff), (0x1bfffe000, 0x1bfffffff)],
        memory: &[(0x1000, 0x9efff, 0x0, 0), (0x100000, 0xbffdffff, 0x0, 0),
            (0x100000000, 0x1bfffffff, 0x0, 0)],
        log: &[
            "NUMA turned off",
            "Faking a node at [mem 0x0000000000000000-0x00000001bfffffff]",
        ],
        possible: &[0], online: &[0], has_memory: &[0], cpu_nodes: &[0, 0],
        distances: &[&[10]],
    },
    Machine {
        name: "cmd-fake4",
        numa: &["fake=4"],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0xbffdffff, 1),
            (0xbffe0000, 0xbfffffff, 2), (0xfffc0000, 0xffffffff, 2), (0x100000000, 0x13fffffff, 1),
            (0xfd00000000, 0xffffffffff, 2)],
        srat: None,
        slit: None,
        apic: Some("\
            4150494378000000018a424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            01000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009090000000d00020a\
            000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0xfffff), (0x1000000, 0x4410fff), (0x3ffd5000, 0x3fffffff), (0x7ffd5000, 0x7fffffff),
            (0xbff46000, 0xbff70fff), (0xbff71000, 0xbffe1ab1), (0x13ffd2000, 0x13fffcfff),
            (0x13fffd000, 0x13fffd00f), (0x13fffe000, 0x13fffffff)],
        memory: &[(0x1000, 0x9efff, 0x0, 0), (0x100000, 0x3fffffff, 0x0, 0), (0x40000000, 0x7fffffff, 0x0, 1),
            (0x80000000, 0xbffdffff, 0x0, 2), (0x100000000, 0x13fffffff, 0x0, 3)],
        log: &[
            "No NUMA configuration found",
            "Faking a node at [mem 0x0000000000000000-0x000000013fffffff]",
            "Faking node 0 at [mem 0x0000000000000000-0x000000003fffffff] (1024MB)",
            "Faking node 1 at [mem 0x0000000040000000-0x000000007fffffff] (1024MB)",
            "Faking node 2 at [mem 0x0000000080000000-0x00000000ffffffff] (2048MB)",
            "Faking node 3 at [mem 0x0000000100000000-0x000000013fffffff] (1024MB)",
            "NUMA: Initialized distance table, cnt=4",
        ],
        possible: &[0, 1, 2, 3], online: &[0, 1, 2, 3], has_memory: &[0, 1, 2, 3], cpu_nodes: &[0],
        distances: &[&[10, 10, 10, 10], &[10, 10, 10, 10], &[10, 10, 10, 10], &[10, 10, 10, 10]],
    },
    Machine {
        name: "cmd-fake4-numa2",
        numa: &["fake=4"],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0xbffdffff, 1),
            (0xbffe0000, 0xbfffffff, 2), (0xfffc0000, 0xffffffff, 2), (0x100000000, 0x1bfffffff, 1),
            (0xfd00000000, 0xffffffffff, 2)],
        srat: Some("\
            53524154f00000000191424f434853204258504320202020010000004258504301000000010000000000000000000000\
            001000000100000000000000000000000010010101000000000000000000000001280000000000000000000000000000\
            00000a000000000000000000010000000000000000000000012800000000000000001000000000000000f07f00000000\
            000000000100000000000000000000000128010000000000000000800000000000000040000000000000000001000000\
            000000000000000001280100000000000000000001000000000000c00000000000000000010000000000000000000000"),
        slit: Some("534c49543000000001e8424f43485320425850432020202001000000425850430100000002000000000000000a15150a"),
        apic: Some("\
            41504943800000000177424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            010000000008010101000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009\
            090000000d00020a000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0xfffff), (0x1000000, 0x4410fff), (0x7ffd5000, 0x7fffffff), (0xbff71000, 0xbffe1c38),
            (0x11ffd5000, 0x11fffffff), (0x1bffd2000, 0x1bfffcfff), (0x1bfffd000, 0x1bfffd008),
            (0x1bfffe000, 0x1bfffffff)],
        memory: &[(0x1000, 0x9efff, 0x0, 0), (0x100000, 0x7fffffff, 0x0, 0), (0x80000000, 0xbffdffff, 0x0, 1),
            (0x100000000, 0x11fffffff, 0x0, 1), (0x120000000, 0x1bfffffff, 0x0, 2)],
        log: &[
            "SRAT: PXM 0 -> APIC 0x00 -> Node 0",
            "SRAT: PXM 1 -> APIC 0x01 -> Node 1",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x00000000-0x0009ffff]",
            "ACPI: SRAT: Node 0 PXM 0 [mem 0x00100000-0x7fffffff]",
            "ACPI: SRAT: Node 1 PXM 1 [mem 0x80000000-0xbfffffff]",
            "ACPI: SRAT: Node 1 PXM 1 [mem 0x100000000-0x1bfffffff]",
            "NUMA: Initialized distance table, cnt=2",
            "NUMA: Node 0 [mem 0x00000000-0x0009ffff] + [mem 0x00100000-0x7fffffff] -> [mem 0x00000000-0x7fffffff]",
            "NUMA: Node 1 [mem 0x80000000-0xbfffffff] + [mem 0x100000000-0x1bfffffff] -> [mem 0x80000000-0x1bfffffff]",
            "Faking node 0 at [mem 0x0000000000000000-0x000000007fffffff] (2048MB)",
            "Faking node 1 at [mem 0x0000000080000000-0x000000011fffffff] (2560MB)",
            "Faking node 2 at [mem 0x0000000120000000-0x00000001bfffffff] (2560MB)",
            "NUMA: Initialized distance table, cnt=3",
        ],
        possible: &[0, 1, 2], online: &[0, 1, 2], has_memory: &[0, 1, 2], cpu_nodes: &[0, 1],
        distances: &[&[10, 21, 21], &[21, 10, 10], &[21, 10, 10]],
    },
    Machine {
        name: "cmd-fake1g",
        numa: &["fake=1G"],
        e820: &[(0x0, 0x9fbff, 1), (0x9fc00, 0x9ffff, 2), (0xf0000, 0xfffff, 2), (0x100000, 0xbffdffff, 1),
            (0xbffe0000, 0xbfffffff, 2), (0xfffc0000, 0xffffffff, 2), (0x100000000, 0x13fffffff, 1),
            (0xfd00000000, 0xffffffffff, 2)],
        srat: None,
        slit: None,
        apic: Some("\
            4150494378000000018a424f4348532042585043202020200100000042585043010000000000e0fe0100000000080000\
            01000000010c00000000c0fe00000000020a0000020000000000020a0005050000000d00020a0009090000000d00020a\
            000a0a0000000d00020a000b0b0000000d000406ff000001"),
        reserved: &[(0x0, 0xfffff), (0x1000000, 0x4410fff), (0x41fd5000, 0x41ffffff), (0x81fd5000, 0x81ffffff),
            (0xbff71000, 0xbffe1ab1), (0x13ffd2000, 0x13fffcfff), (0x13fffd000, 0x13fffd008),
            (0x13fffe000, 0x13fffffff)],
        memory: &[(0x1000, 0x9efff, 0x0, 0), (0x100000, 0x41ffffff, 0x0, 0), (0x42000000, 0x81ffffff, 0x0, 1),
            (0x82000000, 0xbffdffff, 0x0, 2), (0x100000000, 0x13fffffff, 0x0, 2)],
        log: &[
            "No NUMA configuration found",
            "Faking a node at [mem 0x0000000000000000-0x000000013fffffff]",
            "Faking node 0 at [mem 0x0000000000000000-0x0000000041ffffff] (1056MB)",
            "Faking node 1 at [mem 0x0000000042000000-0x0000000081ffffff] (1024MB)",
            "Faking node 2 at [mem 0x0000000082000000-0x000000013fffffff] (3040MB)",
            "NUMA: Initialized distance table, cnt=3",
        ],
        possible: &[0, 1, 2], online: &[0, 1, 2], has_memory: &[0, 1, 2], cpu_nodes: &[0],
        distances: &[&[10, 10, 10], &[10, 10, 10], &[10, 10, 10]],
    },
];
