"""The `mm` commands of gdb: `source kernel/gdb/strata.py`, then `help mm`.

Loads the kernel's symbols when gdb has none yet. Works on any stop: nothing runs in the kernel, all is read from memory
through debug information.
"""

import os
import sys

import gdb

HERE = os.path.dirname(os.path.realpath(__file__))
if HERE not in sys.path:
    sys.path.insert(0, HERE)


def load_symbols():
    """Loads target/strata/strata-kernel unless a program is loaded already."""
    if gdb.current_progspace().filename is not None:
        return
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(HERE, "..", "..", "target")
    elf = os.path.normpath(os.path.join(target, "strata", "strata-kernel"))
    if os.path.exists(elf):
        gdb.execute(f"file {elf}")
    else:
        gdb.write(f"{elf} does not exist yet: build it with `cargo run -- --gdb`, then `file {elf}`\n")


load_symbols()

from strata import commands  # noqa: E402 (the path had to be set first)

commands.register()
