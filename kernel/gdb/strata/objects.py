"""Slab caches and address spaces, a record a line."""

import gdb

from . import cpus, machine, values
from .values import record

VM_BITS = ((1, "r"), (2, "w"), (4, "x"))
VM_SHARED = 8


NO_SPACE = "no address space is in use at this stop"


def show_vmas(every=False):
    """mm vmas: of the address space that the selected CPU's thread uses, or of every one."""
    if machine.Roots.expression:
        show_areas(machine.structure("mm::aspace::Mm", NO_SPACE), {})
        return
    in_use = {int(space.address): space for space in spaces()}
    if not in_use:
        raise gdb.GdbError(NO_SPACE)
    if every:
        for at, space in in_use.items():
            show_areas(values.find(space["mm"], "mm::aspace::Mm"), {"space": f"{at:#x}"})
        return
    thread = cpus.running(cpus.area_of())
    space = in_use.get(values.pointer(thread["space"])) if thread is not None else None
    if space is None:
        raise gdb.GdbError("the selected CPU's thread uses no address space; others do: mm cpus, mm vmas all")
    show_areas(values.find(space["mm"], "mm::aspace::Mm"), {})


def spaces():
    """Each address space that a thread uses."""
    address = values.pointer(machine.structure("kernel::memory::space::Spaces")["__0"])
    while address:
        space = values.at(address, "kernel::memory::space::UserSpace")
        yield space
        address = values.pointer(space["next"])


def show_areas(space, place):
    """The areas of an address space."""
    root = space["areas"]["root"]
    node_type = values.argument_named(root.type, "mm::areas::tree::Node")
    for vma in areas(values.pointer(root), node_type):
        flags = values.number(vma["flags"])
        access = "".join(letter if flags & bit else "-" for bit, letter in VM_BITS)
        start, last = values.number(vma["range"]["start"]), values.number(vma["range"]["last"])
        shared = "s" if flags & VM_SHARED else "p"
        record(**place, start=f"{start:#x}", end=f"{last + 1:#x}", flags=access + shared)


def areas(address, node_type):
    """The areas of the subtree at that address, in order."""
    if address:
        node = gdb.Value(address).cast(node_type.pointer()).dereference()
        yield from areas(values.pointer(node["left"]), node_type)
        yield node["area"]
        yield from areas(values.pointer(node["right"]), node_type)


def show_slabs():
    """mm slabs."""
    for cache in caches():
        geometry, totals = cache["geometry"], dict.fromkeys(("nr_slabs", "nr_partial", "nr_objects", "nr_free"), 0)
        for counts in node_counts(cache):
            for name in totals:
                totals[name] += values.number(counts[name])
        order = values.number(geometry["order"])
        size = values.number(geometry["size"])
        record(
            cache=values.text(cache["name"]),
            active_objs=totals["nr_objects"] - totals["nr_free"],
            num_objs=totals["nr_objects"],
            size=size,
            objs_per_slab=(4096 << order) // size,
            order=order,
            slabs=totals["nr_slabs"],
            partial=totals["nr_partial"],
            at=f"{int(cache.address):#x}",
        )


def caches():
    """Each slab cache, the newest first."""
    slub = machine.structure("mm::slub::Slub")
    link = values.find(slub["caches"], "core::option::Option")
    cache_type = values.argument_named(link.type, "mm::slub::cache::Cache") or values.type_named("mm::slub::cache::Cache")
    address = values.pointer(link)
    while address:
        cache = gdb.Value(address).cast(cache_type.pointer()).dereference()
        yield cache
        address = values.pointer(cache["next"])


def node_counts(cache):
    """A cache's counts on each node."""
    first = values.pointer(cache["nodes"])
    node_type = values.target(values.target(cache["nodes"])).type
    for number in range(values.number(cache["nr_nodes"])):
        address = machine.read_u64(first + 8 * number)
        node = gdb.Value(address).cast(node_type.pointer()).dereference()
        yield values.find(node, "mm::slub::node::NodeCounts")
