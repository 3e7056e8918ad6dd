"""Where the kernel's structures are, and how addresses belong together."""

import re

import gdb

from . import cpus, values

# What mm::arch::layout says.
DIRECT_MAP, DIRECT_MAP_END = 0xFFFF_8880_0000_0000, 0xFFFF_C880_0000_0000
VMEMMAP, VMEMMAP_END = 0xFFFF_EA00_0000_0000, 0xFFFF_EB00_0000_0000
PAGE_SHIFT = 12
SECTION_SHIFT = 15
PAGEBLOCK_SHIFT = 9
STRUCT_PAGE = 64

ROOT = "kernel::memory::MEMORY"


class Roots:
    """The expression from which all structures are found by their types."""

    expression = None


def root():
    """The kernel's one static instance, or what `mm use` named."""
    if Roots.expression:
        return gdb.parse_and_eval(Roots.expression)
    try:
        value = static(ROOT)
        status = values.raw(value["status"], 1) if value is not None else None
    except gdb.MemoryError:
        raise gdb.GdbError(
            "no CPU has the kernel's memory mapped: the kernel has not started yet"
        )
    if value is None:
        raise gdb.GdbError(f"no symbol {ROOT}: load the kernel with symbols (file target/strata/strata-kernel)")
    if status != values.ONCE_COMPLETE:
        raise gdb.GdbError("the memory subsystem is not initialised yet: let the kernel run on")
    return value


def sees_kernel():
    """Whether the selected CPU has the kernel mapped; yes when that makes no difference."""
    if Roots.expression:
        return True
    try:
        value = static(ROOT)
        return value is None or values.raw(value["status"], 1) is not None
    except gdb.MemoryError:
        return False


def static(name):
    """The value of a static, None when there is none of that name."""
    symbol = gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)
    return symbol.value() if symbol is not None and symbol.is_variable else None


def statics(module):
    """The statics of a module and those below it."""
    # `info variables` prints types of Rust statics, not their names; completion knows the names.
    command = f"with language rust -- with max-completions unlimited -- complete print {module}::"
    listing = gdb.execute(command, to_string=True)
    for name in sorted(set(re.findall(rf"^print ({module}::(?:\w+::)*[A-Z][A-Z0-9_]*)$", listing, re.MULTILINE))):
        value = static(name)
        if value is not None:
            yield value


def structure(type_name, missing=None):
    """The machine's one value of that type: in the root, else in another static of the kernel; else the error `missing`."""
    found = values.find(root(), type_name)
    if found is None and not Roots.expression:
        found = next((value for value in map(find_in(type_name), statics("kernel")) if value is not None), None)
    if found is None:
        raise gdb.GdbError(missing or f"there is no {type_name} at this stop")
    return found


def find_in(type_name):
    """A search for that type in a value; what the compiler has left out of a static has nothing in it."""

    def find(value):
        try:
            return values.find(value, type_name)
        except gdb.MemoryError:
            raise
        except gdb.error:
            return None

    return find


class Memory:
    """Addresses of one machine: the real one, or a simulated one of a host test."""

    def __init__(self):
        self.sparse = values.find(structure("mm::node::Nodes"), "mm::sparse::Sparse")
        machine = self.sparse["machine"]
        if machine.type.sizeof:
            self.direct_map, self.vmemmap = values.pointer(machine["ram"]), values.pointer(machine["pages"])
            self.direct_map_end = self.vmemmap
            self.vmemmap_end = self.vmemmap + (1 << 40)
        else:
            self.direct_map, self.direct_map_end = DIRECT_MAP, DIRECT_MAP_END
            self.vmemmap, self.vmemmap_end = VMEMMAP, VMEMMAP_END

    def page(self, pfn):
        """The struct Page of a frame."""
        return values.at(self.vmemmap + pfn * STRUCT_PAGE, "mm::page::Page")

    def pfn_of(self, page_address):
        """The frame of a struct Page."""
        return (page_address - self.vmemmap) // STRUCT_PAGE

    def pageblock(self, pfn):
        """The byte of a frame's pageblock, None when the frame has no struct Page."""
        root_type = values.type_named("mm::sparse::Root")
        per_root = root_type.sizeof // values.type_named("mm::sparse::Section").sizeof
        section = pfn >> SECTION_SHIFT
        if section // per_root >= values.number(self.sparse["nr_roots"]):
            return None
        roots = values.pointer(self.sparse["roots"])
        root_at = read_u64(roots + 8 * (section // per_root))
        if root_at == 0:
            return None
        entry = values.item(values.at(root_at, "mm::sparse::Root")["sections"], section % per_root)
        usage = values.pointer(entry["usage"])
        if usage == 0:
            return None
        in_section = (pfn >> PAGEBLOCK_SHIFT) % (1 << (SECTION_SHIFT - PAGEBLOCK_SHIFT))
        return gdb.selected_inferior().read_memory(usage + in_section, 1).tobytes()[0]

    def pfn_from(self, words):
        """The frame that `PFN`, `pfn N`, `phys ADDRESS` or an address names."""
        kind = words[0] if len(words) == 2 else None
        if not 1 <= len(words) <= 2 or kind not in (None, "pfn", "phys", "virt"):
            raise gdb.GdbError("usage: mm page PFN | pfn N | phys ADDRESS | virt ADDRESS | ADDRESS")
        n = cpus.on(None, lambda: int(gdb.parse_and_eval(words[-1]))) & 0xFFFF_FFFF_FFFF_FFFF
        if kind == "pfn":
            return n
        if kind == "phys":
            return n >> PAGE_SHIFT
        if self.vmemmap <= n < self.vmemmap_end:
            return self.pfn_of(n)
        if self.direct_map <= n < self.direct_map_end:
            return (n - self.direct_map) >> PAGE_SHIFT
        if kind is None and n < 1 << 34:
            return n
        return translate(self, n) >> PAGE_SHIFT


def read_u64(address):
    """The word at an address."""
    return int.from_bytes(gdb.selected_inferior().read_memory(address, 8).tobytes(), "little")


PRESENT, LARGE = 1, 1 << 7
CR0_PG, CR4_LA57 = 1 << 31, 1 << 12
FRAME = 0x000F_FFFF_FFFF_F000


def translate(memory, address):
    """The physical address behind a virtual one, by the page tables of the CPU that the user has selected."""
    if memory.direct_map != DIRECT_MAP:
        raise gdb.GdbError(f"{address:#x} is no page frame, struct Page or address of the simulated machine's memory")
    if not cpus.register("cr0") & CR0_PG:
        return address
    levels = 5 if cpus.register("cr4") & CR4_LA57 else 4
    width = PAGE_SHIFT + 9 * levels
    upper = address >> (width - 1)
    table = cpus.register("cr3") & FRAME
    for level in reversed(range(levels)):
        shift = PAGE_SHIFT + 9 * level
        entry = read_u64(memory.direct_map + table + 8 * (address >> shift & 511))
        if not entry & PRESENT or upper not in (0, (1 << (65 - width)) - 1):
            raise gdb.GdbError(f"{address:#x} is not mapped on this CPU")
        if level == 0 or (entry & LARGE and level < 3):
            inside = (1 << shift) - 1
            return entry & FRAME & ~inside | address & inside
        table = entry & FRAME
