"""What is typed: `mm nodes` and so on. `help mm` lists them."""

import gdb

from . import cpus, machine, objects, pages


class Mm(gdb.Command):
    """Look into the memory subsystem of the stopped kernel, a record a line.

mm cpus               CPUs: which thread runs on each
mm nodes              nodes: span, pages present, managed and free
mm zones              zones: watermarks, sizes, per-CPU lists
mm counters           what nodes and zones count
mm free [blocks|pcp]  free blocks by order and migratetype, or each block, or those on per-CPU lists
mm page PFN|ADDRESS   what is known of a page frame
mm slabs              slab caches
mm vmas [all]         the areas of the address space that the selected CPU's thread uses, or of all address spaces
mm use [EXPRESSION]   look for the structures in the value of EXPRESSION instead of the kernel's own static

Everything is read from memory: any stop will do, also inside a lock or a handler, whichever
CPU is selected (`info threads`, `thread N`)."""

    def __init__(self):
        super().__init__("mm", gdb.COMMAND_DATA, prefix=True)

    def invoke(self, arguments, from_tty):
        if arguments:
            raise gdb.GdbError(f'Undefined mm command: "{arguments}". Try "help mm".')
        gdb.execute("help mm")


def command(name, help_text, action):
    """Registers `mm NAME`: `action` gets the words of its arguments."""

    class Command(gdb.Command):
        __doc__ = help_text

        def invoke(self, arguments, from_tty):
            try:
                with cpus.seeing_kernel():
                    action(gdb.string_to_argv(arguments))
            except gdb.MemoryError as error:
                raise gdb.GdbError(f"the kernel's memory cannot be read at this stop: {error}")
            except gdb.error as error:
                raise gdb.GdbError(f"mm {name}: {error}")

    Command(f"mm {name}", gdb.COMMAND_DATA)


def without_arguments(name, show):
    """An action that takes no words."""

    def action(words):
        if words:
            raise gdb.GdbError(f"mm {name} takes no arguments")
        show()

    return action


def free(words):
    """mm free."""
    if words not in ([], ["blocks"], ["pcp"]):
        raise gdb.GdbError("usage: mm free [blocks|pcp]")
    if words == ["pcp"]:
        pages.show_pcp()
    else:
        pages.show_free(blocks=bool(words))


def vmas(words):
    """mm vmas."""
    if words not in ([], ["all"]):
        raise gdb.GdbError("usage: mm vmas [all]")
    objects.show_vmas(every=bool(words))


def use(words):
    """mm use."""
    machine.Roots.expression = " ".join(words) or None


def register():
    """Makes all commands."""
    Mm()
    command(
        "cpus",
        """Possible CPUs, a line each: its state, and number, name, state and address space of the thread that it runs.

`gdb` is the CPU's number for `thread N`. A preempt_count above 0 keeps the thread on its CPU.""",
        without_arguments("cpus", cpus.show_cpus),
    )
    command(
        "nodes",
        "Nodes, a line each: first frame, frames spanned, pages present, managed, free, and on per-CPU lists.",
        without_arguments("nodes", pages.show_nodes),
    )
    command(
        "zones",
        "Zones that have RAM, a line each: limits, sizes, and pages on the lists of the CPUs that run (`cpus`).",
        without_arguments("zones", pages.show_zones),
    )
    command(
        "counters",
        "Counters of nodes and zones, a line each, as in /proc/zoneinfo: with what CPUs have not carried over.",
        without_arguments("counters", pages.show_counters),
    )
    command(
        "free",
        """Free blocks: mm free [blocks|pcp].

A line for each zone and migratetype: the free pages, and as `nr` the free blocks of orders 0 to 10. Added up over the
types those are /proc/buddyinfo. With `blocks`, a line for each block, found by following the lists; with `pcp`, for each
block on a CPU's own lists, which the counts leave out.""",
        free,
    )
    command(
        "page",
        """A page frame: mm page PFN | pfn N | phys ADDRESS | virt ADDRESS | ADDRESS.

A small number is a page frame number; other addresses are recognised: the direct map, a struct Page, and whatever the
page tables of the selected CPU map. Prints the page's state, by the table in mm::page, and what belongs to it: the list
and order of a free block, the cache of a slab, the head of a tail, the free block that the page lies in. `tail` is a
later page of an allocation that is not compound, or a page that is frozen.""",
        pages.show_page,
    )
    command(
        "slabs",
        "Slab caches, a line each, as /proc/slabinfo counts them.",
        without_arguments("slabs", objects.show_slabs),
    )
    command(
        "vmas",
        """Areas of an address space: mm vmas [all].

A line each, in order of address: those of the space that the selected CPU's thread uses. With `all`, those of every
space that a thread uses, which need not run now; `space` is its address, as in `mm cpus`.""",
        vmas,
    )
    command(
        "use",
        """Where to look: mm use [EXPRESSION].

The structures are found by their types in the value of EXPRESSION, also behind references. Without one, in the
kernel's static kernel::memory::MEMORY.""",
        use,
    )
