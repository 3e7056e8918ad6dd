"""The machine's CPUs: what each runs, and which of them gdb looks through.

gdb shows a CPU as a thread, and reads memory by the page tables of the one that is selected. That need not be one that
sees the kernel: it may still be in firmware. Commands then look through another, and select the same one again.
"""

import contextlib

import gdb

from . import machine, values

SLOTS = "kernel::cpu::online::SLOTS"


class Chosen:
    """The CPU that the user has selected, as gdb's thread, while a command looks through another."""

    thread = None


@contextlib.contextmanager
def seeing_kernel():
    """Within it memory is read through a CPU that sees the kernel: the selected one, if it does, else any other."""
    before = gdb.selected_thread()
    if before is None or machine.sees_kernel():
        yield
        return
    frame = gdb.selected_frame()
    Chosen.thread = before
    try:
        for thread in gdb.selected_inferior().threads():
            thread.switch()
            if machine.sees_kernel():
                break
        else:
            before.switch()
        yield
    finally:
        Chosen.thread = None
        before.switch()
        if frame.is_valid():
            frame.select()


def on(thread, ask):
    """What `ask` returns when that thread is selected; None is the one that the user has selected."""
    thread = thread or Chosen.thread
    before = gdb.selected_thread()
    if thread is None or before is None or thread.ptid == before.ptid:
        return ask()
    thread.switch()
    try:
        return ask()
    finally:
        before.switch()


def register(name, thread=None):
    """A register of a CPU: the selected one's, unless told otherwise."""
    return int(on(thread, lambda: gdb.parse_and_eval(f"${name}"))) & 0xFFFF_FFFF_FFFF_FFFF


def area_of(thread=None):
    """The address of the PerCpuArea of a CPU; None when it has none yet."""
    for name in ("gs_base", "k_gs_base"):
        at = register(name, thread)
        try:
            # Its first word is its own address: whichever of the two GS bases is the kernel's now, that one says so.
            if at and machine.read_u64(at) == at:
                return at
        except gdb.MemoryError:
            pass
    return None


def slots():
    """(number, Slot) of each possible CPU; nothing before the kernel knows them."""
    found = machine.static(SLOTS)
    found = found if found is None else values.find(found, "&[kernel::cpu::online::Slot]")
    if found is not None:
        for number in range(values.number(found["length"])):
            yield number, values.element(found["data_ptr"].dereference(), number)


def online():
    """A test whether a CPU runs, by its number. Of a machine whose CPUs are not known, as a simulated one, all do."""
    running = values.number_named("kernel::cpu::online::State", "Online")
    if machine.Roots.expression:
        return lambda cpu: True
    numbers = {number for number, slot in slots() if values.number(slot["state"]) == running}
    return lambda cpu: cpu in numbers or cpu == 0


def running(area):
    """The Thread that a CPU runs, by the address of its area; None before there are threads."""
    at = values.pointer(values.at(area, "kernel::cpu::percpu::PerCpuArea")["current"]) if area else 0
    return values.at(at, "kernel::thread::Thread") if at else None


def show_cpus():
    """mm cpus."""
    machine.root()
    states, thread_states = (values.names(f"kernel::{name}::State") for name in ("cpu::online", "thread"))
    threads = {area_of(thread): thread.num for thread in gdb.selected_inferior().threads()}
    for number, slot in slots():
        area = values.pointer(slot["area"])
        line = {"cpu": number, "state": states.get(values.number(slot["state"]), "?"), "gdb": threads.get(area, "none")}
        thread = running(area)
        if thread is not None:
            line |= {
                "thread": values.number(thread["id"]),
                "name": values.text(thread["name"]).replace(" ", "_"),
                "thread_state": thread_states.get(values.number(thread["state"]), "?"),
                "space": f"{values.pointer(thread['space']):#x}",
                "preempt_count": values.number(values.at(area, "kernel::cpu::percpu::PerCpuArea")["preempt_count"]),
            }
        values.record(**line)
