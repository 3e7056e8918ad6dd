# What `gdb -x kernel/gdb/init.gdb target/strata/strata-kernel` runs: symbols, the `mm` commands, and the machine that
# `cargo run -- --gdb` has stopped on port 1234, or at the address in the environment's STRATA_GDB (`:4321`, a Unix
# socket). `source kernel/gdb/strata.py` alone gives the commands without connecting.
set pagination off
set confirm off
set print pretty on

python
import os

def _strata_script():
    """gdb does not tell a script where it is: see the command line that named it, else the current directory."""
    with open("/proc/self/cmdline", "rb") as command_line:
        words = [os.fsdecode(word) for word in command_line.read().split(b"\0")]
    here = [os.path.dirname(word.split("=", 1)[-1]) for word in words if word.endswith("init.gdb")]
    for directory in here + ["kernel/gdb", "."]:
        script = os.path.join(directory, "strata.py")
        if os.path.exists(script):
            return script
    raise gdb.GdbError("strata.py is not beside init.gdb: start gdb in the repository, or give init.gdb with -x")

gdb.execute("source " + _strata_script())
gdb.execute("target remote " + os.environ.get("STRATA_GDB", ":1234"))
end

