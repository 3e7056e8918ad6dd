"""Nodes, zones, counters, free lists and pages, a record a line."""

import gdb

from . import cpus, machine, values
from .values import record

ZONE_SHIFT, ZONE_MASK, NODE_SHIFT = 51, 7, 54
PAGE_TYPES = {0xFFFF_FF7F: "Buddy", 0xFFFF_FEFF: "Offline", 0xFFFF_FDFF: "Table", 0xFFFF_FBFF: "Guard"}
FLAGS = (
    "LOCKED REFERENCED UPTODATE DIRTY LRU ACTIVE WORKINGSET WAITERS ERROR SLAB OWNER_PRIV_1 ARCH_1 RESERVED PRIVATE "
    "PRIVATE_2 WRITEBACK HEAD MAPPEDTODISK RECLAIM SWAPBACKED UNEVICTABLE MLOCKED HWPOISON"
).split()
# What mm::pcp says: a row of lists for each order up to this one, and for a pageblock's; in it one for each of so many
# types.
COSTLY_ORDER, PCP_TYPES = 3, 3
# The word in which a page of a per-CPU list has its type.
FREED_AS = 3
ZONE_NAMES = {"Dma": "DMA", "Dma32": "DMA32"}
TYPE_NAMES = {"Cma": "CMA"}


def types():
    """Names of migratetypes by number, as /proc/pagetypeinfo has them."""
    return {number: TYPE_NAMES.get(name, name) for number, name in sorted(values.names("mm::gfp::MigrateType").items())}


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
        zone = values.item(node["zones"], index)
        if values.number(zone["present"]):
            yield ZONE_NAMES.get(name, name), zone


def free_areas(zone):
    """The data under the zone's lock, locked or not."""
    return values.find(zone["free"], "mm::buddy::FreeAreas")


def zone_free(zone):
    """NR_FREE_PAGES, of which no CPU has a part."""
    return max(values.signed(zone["vm_stat"]["__0"]["shared"]["values"][0]), 0)


def counters(split, items):
    """Each value of counters with parts for each CPU, by the names of the enum `items`."""
    names = sorted(values.names(items).items())
    sums = [values.signed(split["shared"]["values"][index]) for index, _ in names]
    for _, slot in slots(split["parts"]):
        part = values.find(slot, "mm::counters::split::Part")["__0"]
        sums = [value + values.signed(part[index]) for value, (index, _) in zip(sums, names)]
    return {name: max(value, 0) for (_, name), value in zip(names, sums)}


def slots(per_cpu):
    """(CPU, what is its own) of a PerCpu, for each possible CPU."""
    first = values.target(per_cpu["base"])
    for cpu in range(values.number(per_cpu["nr_cpus"])):
        yield cpu, values.element(first, cpu)


def pcps(zone):
    """(CPU, its lists) for each possible CPU."""
    for cpu, slot in slots(zone["pagesets"]):
        yield cpu, values.find(slot, "mm::pcp::Pcp")


def pcp_pages(zone):
    """Pages on all CPUs' lists."""
    return sum(values.number(pcp["count"]) for _, pcp in pcps(zone))


def pcp_blocks(zone, memory):
    """(CPU, type's number, order, first frame) of each block on a CPU's lists, and of the one it has spare."""
    for cpu, pcp in pcps(zone):
        # A stop may be inside of a list operation: the count bounds what is followed.
        pages = values.number(pcp["count"])
        # There is one more in the array than there are lists.
        for index in range(pcp["lists"].type.range()[1]):
            row, type_number = divmod(index, PCP_TYPES)
            order = row if row <= COSTLY_ORDER else machine.PAGEBLOCK_SHIFT
            address = values.pointer(values.item(pcp["lists"], index)["head"])
            while address and pages > 0:
                yield cpu, type_number, order, memory.pfn_of(address)
                pages -= 1 << order
                address = values.raw(values.at(address, "mm::page::Page")["words"][0])
        spare = values.find(pcp["spare"], "mm::buddy::block::FreeBlock")
        if spare is not None:
            address = values.pointer(spare["page"])
            type_number = values.raw(values.at(address, "mm::page::Page")["words"][FREED_AS])
            yield cpu, type_number, values.number(spare["order"]), memory.pfn_of(address)


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
            pcp=sum(pcp_pages(z) for z in all_zones),
        )


def show_zones():
    """mm zones."""
    runs = cpus.online()
    for number, node in nodes():
        for name, zone in zones(node):
            boost = values.number(zone["watermark_boost"])
            marks = [values.number(zone["watermarks"][n]) + boost for n in range(3)]
            sizes = {key: values.number(zone[key]) for key in ("spanned", "present", "managed", "start_pfn")}
            lists = [(cpu, pcp) for cpu, pcp in pcps(zone) if runs(cpu)]
            record(
                node=number,
                zone=name,
                free=zone_free(zone),
                boost=boost,
                **dict(zip(("min", "low", "high"), marks)),
                **sizes,
                cma=values.number(zone["cma_pages"]),
                protection=",".join(str(values.number(zone["lowmem_reserve"][n])) for n in range(5)),
                cpus=",".join(str(cpu) for cpu, _ in lists),
                pcp=",".join(str(values.number(pcp["count"])) for _, pcp in lists),
                pcp_high=",".join(str(values.number(pcp["high"])) for _, pcp in lists),
                pcp_batch=values.number(zone["pcp_batch"]),
            )


def show_counters():
    """mm counters."""
    for number, node in nodes():
        record(node=number, **counters(node["counters"], "mm::counters::items::NodeStat"))
        for name, zone in zones(node):
            record(node=number, zone=name, **counters(zone["vm_stat"]["__0"], "mm::counters::items::ZoneStat"))


def show_free(blocks):
    """mm free: how many blocks each list says it has; with `blocks`, each block that is on it."""
    for number, node in nodes():
        for name, zone in zones(node):
            free = free_areas(zone)
            areas = [values.item(free["areas"], order) for order in range(free["areas"].type.range()[1] + 1)]
            for index, type_name in types().items():
                place = {"node": number, "zone": name, "type": type_name}
                if blocks:
                    for order, area in enumerate(areas):
                        show_blocks(place, order, values.item(area["lists"], index))
                else:
                    counts = ",".join(str(values.number(area["nr"][index])) for area in areas)
                    record(**place, pages=values.number(free["pages"][index]), nr=counts)


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
    memory, names = machine.Memory(), types()
    for number, node in nodes():
        for name, zone in zones(node):
            for cpu, type_number, order, pfn in pcp_blocks(zone, memory):
                record(node=number, zone=name, cpu=cpu, type=names[type_number], order=order, pfn=f"{pfn:#x}")


def show_page(words):
    """mm page."""
    memory = machine.Memory()
    pfn = memory.pfn_from(words)
    block = memory.pageblock(pfn)
    if block is None:
        raise gdb.GdbError(f"pfn {pfn:#x} has no struct Page: no RAM in its section")
    page = memory.page(pfn)
    flags = values.number(page["flags"])
    kind, mapped = type_and_mapcount(values.number(page["type_or_mapcount"]))
    zone = values.names("mm::id::ZoneIdx").get(flags >> ZONE_SHIFT & ZONE_MASK, "?")
    word, more = state(memory, pfn, page)
    record(
        pfn=f"{pfn:#x}",
        phys=f"{pfn << machine.PAGE_SHIFT:#x}",
        page=f"{int(page.address):#x}",
        node=flags >> NODE_SHIFT,
        zone=ZONE_NAMES.get(zone, zone),
        pageblock=types().get(block & 7, "?"),
        state=word,
        **more,
        flags="|".join(sorted(flag_names(page), key=FLAGS.index)) or "none",
        type=kind,
        refcount=values.signed(page["refcount"]),
        mapcount=mapped,
        words=",".join(f"{page_word(page, n):#x}" for n in range(5)),
    )


def page_word(page, index):
    """A word of the page that belongs to its state."""
    return values.raw(page["words"][index])


def flag_names(page):
    """The names of the flags that the page has."""
    flags = values.number(page["flags"])
    return {name for bit, name in enumerate(FLAGS) if flags >> bit & 1}


def type_and_mapcount(word):
    """A page's type and how many entries map it, by the table in mm::page::refs."""
    count = word - (1 << 32) if word >> 31 else word
    if -(1 << 28) <= count <= -129:
        return PAGE_TYPES.get(word, f"unknown({word:#x})"), 0
    # Below -1 it is a bug, which the number shows.
    return "none", count + 1


def state(memory, pfn, page):
    """The state of a page in a word, by the table in mm::page, and what belongs to that state."""
    kind, _ = type_and_mapcount(values.number(page["type_or_mapcount"]))
    names, refcount = flag_names(page), values.signed(page["refcount"])
    if values.raw(page) == 0:
        return "not-initialised", {}
    if "RESERVED" in names:
        return "reserved", {}
    if "SLAB" in names:
        return "slab", slab(page)
    if kind == "Buddy":
        return "free-block", {"order": page_word(page, 2) & 0xFF, "list": types().get(page_word(page, 2) >> 8 & 0xFF, "?")}
    if kind != "none":
        return {"Table": "page-table"}.get(kind, kind.lower()), {}
    if "HEAD" in names:
        return "compound-head", compound(memory, pfn)
    if refcount < 0:
        return "broken", {}
    if refcount:
        return "allocated", {}
    return state_unused(memory, pfn, page)


def slab(page):
    """Of a slab's first page: its cache, and the counters in word 4."""
    word = page_word(page, 4)
    cache = values.text(values.at(page_word(page, 2), "mm::slub::cache::Cache")["name"]) if page_word(page, 2) else "none"
    return {"cache": cache, "order": word >> 8 & 0xFF, "inuse": word >> 32 & 0xFFFF, "objects": word >> 48}


def compound(memory, pfn):
    """Of a compound page's first page: what its first tail says."""
    tail = memory.page(pfn + 1)
    word, (_, entire) = page_word(tail, 1), type_and_mapcount(page_word(tail, 2) & 0xFFFF_FFFF)
    destructors = values.names("mm::page::compound::Destructor")
    return {"order": word & 0xFF, "destructor": destructors.get(word >> 8 & 0xFF, "?"), "entire_mapcount": entire}


def state_unused(memory, pfn, page):
    """The state of a page without users of its own: a tail, or what it lies in tells."""
    head = memory.pfn_of(page_word(page, 0) & ~1)
    if page_word(page, 0) & 1 and 0 < pfn - head < 1024:
        names = flag_names(memory.page(head))
        if "HEAD" in names:
            return "slab-tail" if "SLAB" in names else "compound-tail", {"head": f"{head:#x}"}
    return state_inside(memory, pfn, values.number(page["flags"]))


def state_inside(memory, pfn, flags):
    """The state of a page without users that heads no free block: what it lies in tells."""
    for order in range(1, 11):
        # A block starts at a multiple of its size.
        head = pfn >> order << order
        if memory.pageblock(head) is None:
            break
        page = memory.page(head)
        block_order = page_word(page, 2) & 0xFF
        if PAGE_TYPES.get(values.number(page["type_or_mapcount"])) == "Buddy" and pfn < head + (1 << block_order):
            return "free", {"block": f"{head:#x}", "order": block_order}
    zone = values.item(dict(nodes())[flags >> NODE_SHIFT]["zones"], flags >> ZONE_SHIFT & ZONE_MASK)
    for cpu, _, order, head in pcp_blocks(zone, memory):
        if head <= pfn < head + (1 << order):
            return "free-pcp", {"cpu": cpu, "block": f"{head:#x}", "order": order}
    # Of an allocation that is not compound only the first page is counted. Or it is frozen: its owner alone knows it.
    return "tail", {}

