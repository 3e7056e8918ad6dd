"""How gdb reads the memory subsystem of a stopped Strata.

values      Rust values: numbers inside wrappers, pointers, searching by type
machine     where the structures are, and addresses: page frame <-> struct Page <-> direct map
cpus        what each CPU runs, and through which of them memory is read
pages       nodes, zones, counters, free lists, pages
objects     slab caches, address spaces
commands    what is typed
"""
