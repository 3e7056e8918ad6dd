"""Nodes, zones, free lists and pages, a record a line."""

import gdb

from . import machine, values

ZONE_SHIFT, ZONE_MASK, NODE_SHIFT = 51, 7, 54
PAGE_TYPES = {0xFFFF_FF7F: "Buddy", 0xFFFF_FEFF: "Offline", 0xFFFF_FDFF: "Table", 0xFFFF_FBFF: "Guard"}
NO_TYPE = 0xFFFF_FFFF
FLAGS = (
    "LOCKED REFERENCED UPTODATE DIRTY LRU ACTIVE WORKINGSET WAITERS ERROR SLAB OWNER_PRIV_1 ARCH_1 RESERVED PRIVATE "
    "PRIVATE_2 WRITEBACK HEAD MAPPEDTODISK RECLAIM SWAPBACKED UNEVICTABLE MLOCKED HWPOISON"
).split()
# What mm::pcp says: a row of lists for each order up to this one, and for a pageblock's.
COSTLY_ORDER = 3
ZONE_NAMES = {"Dma": "DMA", "Dma32": "DMA32"}


def nodes():
    """(number, Node) of each online node."""
    table = machine.structure("mm::node::Nodes")
    first = values.pointer(table["table"])
    for number in range(values.number(table["len"])):
        address = machine.read_u64(first + 8 * number)
        if address:
            yield number, values.at(address, "mm::node::Node")


def zones(node):
    """(name, Zone) of each zone that has RAM."""
    for index, name in sorted(values.names("mm::id::ZoneIdx").items()):
        zone = node["zones"][index]
        if values.number(zone["present"]):
            yield ZONE_NAMES.get(name, name), zone


def free_areas(zone):
    """The data under the zone's lock, locked or not."""
    return values.find(zone["free"], "mm::buddy::FreeAreas")


def zone_free(zone):
    """NR_FREE_PAGES."""
    return max(values.signed(zone["vm_stat"]["__0"]["shared"]["values"][0]), 0)


def pcps(zone):
    """Each CPU's lists."""
    pagesets = zone["pagesets"]
    first = values.target(pagesets["base"])
    for cpu in range(values.number(pagesets["nr_cpus"])):
        yield values.find(values.element(first, cpu), "mm::pcp::Pcp")


def pcp_counts(zone):
    """Pages on each CPU's lists."""
    return [values.number(pcp["count"]) for pcp in pcps(zone)]


def pcp_blocks(zone, memory):
    """(CPU, type's number, order, first frame) of each block on a CPU's lists."""
    for cpu, pcp in enumerate(pcps(zone)):
        # A stop may be inside of a list operation: the count bounds what is followed.
        pages = values.number(pcp["count"])
        nr_lists = pcp["lists"].type.range()[1] + 1
        nr_types = nr_lists // (COSTLY_ORDER + 2)
        for index in range(nr_lists):
            row, type_number = divmod(index, nr_types)
            order = row if row <= COSTLY_ORDER else machine.PAGEBLOCK_SHIFT
            address = values.pointer(pcp["lists"][index]["head"])
            while address and pages > 0:
                yield cpu, type_number, order, memory.pfn_of(address)
                pages -= 1 << order
                address = values.raw(values.at(address, "mm::page::Page")["words"][0])


def show_nodes():
    """mm nodes."""
    for number, node in nodes():
        all_zones = [zone for _, zone in zones(node)]
        start = values.number(node["span"]["start"])
        record(
            node=number,
            start_pfn=start,
            spanned=values.number(node["span"]["end"]) - start,
            present=values.number(node["present"]),
            managed=sum(values.number(z["managed"]) for z in all_zones),
            free=sum(zone_free(z) for z in all_zones),
            pcp=sum(sum(pcp_counts(z)) for z in all_zones),
        )


def show_zones():
    """mm zones."""
    for number, node in nodes():
        for name, zone in zones(node):
            boost = values.number(zone["watermark_boost"])
            marks = [values.number(zone["watermarks"][n]) + boost for n in range(3)]
            sizes = {key: values.number(zone[key]) for key in ("spanned", "present", "managed", "start_pfn")}
            record(
                node=number,
                zone=name,
                free=zone_free(zone),
                boost=boost,
                **dict(zip(("min", "low", "high"), marks)),
                **sizes,
                protection=",".join(str(values.number(zone["lowmem_reserve"][n])) for n in range(5)),
                pcp=",".join(map(str, pcp_counts(zone))),
                pcp_high=values.number(zone["pcp_high"]),
                pcp_batch=values.number(zone["pcp_batch"]),
            )


def show_free(blocks):
    """mm free: how many blocks each list says it has; with `blocks`, each block that is on it."""
    types = sorted(values.names("mm::gfp::MigrateType").items())
    for number, node in nodes():
        for name, zone in zones(node):
            areas = free_areas(zone)["areas"]
            low, high = areas.type.range()
            for index, type_name in types:
                place = {"node": number, "zone": name, "type": type_name}
                if blocks:
                    for order in range(low, high + 1):
                        show_blocks(place, order, areas[order]["lists"][index])
                else:
                    counts = [values.number(areas[order]["nr"][index]) for order in range(low, high + 1)]
                    record(**place, nr=",".join(map(str, counts)))


def show_blocks(place, order, page_list):
    """Each block of one list, by following its links."""
    memory = machine.Memory()
    address = values.pointer(page_list["first"])
    while address:
        page = values.at(address, "mm::page::Page")
        record(**place, order=order, pfn=f"{memory.pfn_of(address):#x}")
        address = values.raw(page["words"][0])


def show_pcp():
    """mm free pcp: each block on per-CPU lists."""
    memory, types = machine.Memory(), values.names("mm::gfp::MigrateType")
    for number, node in nodes():
        for name, zone in zones(node):
            for cpu, type_number, order, pfn in pcp_blocks(zone, memory):
                record(node=number, zone=name, cpu=cpu, type=types[type_number], order=order, pfn=f"{pfn:#x}")


def show_page(words):
    """mm page."""
    memory = machine.Memory()
    pfn = memory.pfn_from(words)
    block = memory.pageblock(pfn)
    if block is None:
        raise gdb.GdbError(f"pfn {pfn:#x} has no struct Page: no RAM in its section")
    page = memory.page(pfn)
    flags = values.number(page["flags"])
    kind = values.number(page["type_or_mapcount"])
    mapped = 0 if kind == NO_TYPE or kind in PAGE_TYPES else kind + 1
    zone = values.names("mm::id::ZoneIdx").get(flags >> ZONE_SHIFT & ZONE_MASK, "?")
    word, more = state(memory, pfn, page)
    record(
        pfn=f"{pfn:#x}",
        phys=f"{pfn << machine.PAGE_SHIFT:#x}",
        page=f"{int(page.address):#x}",
        node=flags >> NODE_SHIFT,
        zone=ZONE_NAMES.get(zone, zone),
        pageblock=values.names("mm::gfp::MigrateType").get(block & 7, "?"),
        state=word,
        **more,
        flags="|".join(name for bit, name in enumerate(FLAGS) if flags >> bit & 1) or "none",
        type=PAGE_TYPES.get(kind, "none"),
        refcount=values.number(page["refcount"]),
        mapcount=mapped,
        words=",".join(f"{values.raw(page['words'][n]):#x}" for n in range(5)),
    )


def state(memory, pfn, page):
    """The state of a page in a word, by the table in mm::page, and what belongs to that state."""
    flags, kind = values.number(page["flags"]), values.number(page["type_or_mapcount"])
    names = {name for bit, name in enumerate(FLAGS) if flags >> bit & 1}
    refcount, first_word = values.number(page["refcount"]), values.raw(page["words"][0])
    if "RESERVED" in names:
        return "reserved", {}
    if "SLAB" in names:
        return "slab", {}
    if PAGE_TYPES.get(kind) == "Buddy":
        return "free-block", {"order": values.raw(page["words"][2]) & 0xff}
    if PAGE_TYPES.get(kind) == "Table":
        return "page-table", {}
    if refcount:
        return "compound-head" if "HEAD" in names else "allocated", {}
    if first_word & 1:
        return "compound-tail", {"head": f"{memory.pfn_of(first_word - 1):#x}"}
    return state_inside(memory, pfn, flags)


def state_inside(memory, pfn, flags):
    """The state of a page without users that heads no free block: what it lies in tells."""
    for order in range(1, 11):
        # A block starts at a multiple of its size.
        head = pfn >> order << order
        if memory.pageblock(head) is None:
            break
        page = memory.page(head)
        block_order = values.raw(page["words"][2]) & 0xff
        if PAGE_TYPES.get(values.number(page["type_or_mapcount"])) == "Buddy" and pfn < head + (1 << block_order):
            return "free", {"block": f"{head:#x}", "order": block_order}
    zone = dict(nodes())[flags >> NODE_SHIFT]["zones"][flags >> ZONE_SHIFT & ZONE_MASK]
    for cpu, _, order, head in pcp_blocks(zone, memory):
        if head <= pfn < head + (1 << order):
            return "free-pcp", {"cpu": cpu, "block": f"{head:#x}", "order": order}
    # Of an allocation that is not compound only the first page is counted.
    return "tail", {}


def record(**values_by_name):
    """Prints a record: names and values in turn, on one line."""
    gdb.write(" ".join(f"{name} {value}" for name, value in values_by_name.items()) + "\n")
