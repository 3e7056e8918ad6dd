"""Slab caches and address spaces, a record a line."""

import gdb

from . import machine, values
from .pages import record

VM_BITS = ((1, "r"), (2, "w"), (4, "x"))
VM_SHARED = 8


def show_vmas():
    """mm vmas."""
    root = machine.structure("mm::vma::tree::VmaTree")["root"]
    node_type = values.argument_named(root.type, "mm::vma::tree::Node")
    for vma in areas(values.pointer(root), node_type):
        flags = values.number(vma["flags"])
        access = "".join(letter if flags & bit else "-" for bit, letter in VM_BITS)
        start, last = values.number(vma["range"]["start"]), values.number(vma["range"]["last"])
        shared = "s" if flags & VM_SHARED else "p"
        record(start=f"{start:#x}", end=f"{last + 1:#x}", flags=access + shared)


def areas(address, node_type):
    """The areas of the subtree at that address, in order."""
    if address:
        node = gdb.Value(address).cast(node_type.pointer()).dereference()
        yield from areas(values.pointer(node["left"]), node_type)
        yield node["vma"]
        yield from areas(values.pointer(node["right"]), node_type)
