"""Rust values as gdb sees them: what is inside of wrappers, whatever they are called.

Atomics, cells, NonNull, newtypes and lock data are structs with one field that takes space; reading goes through them by
that rule, so it survives renamed fields of the standard library.
"""

import gdb

STRUCT, UNION = gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION
POINTER = gdb.TYPE_CODE_PTR

# spin::once::Status::Complete.
ONCE_COMPLETE = 2


def type_named(name):
    """The type of that name; an error that says what to do when the debug information does not have it."""
    try:
        return gdb.lookup_type(name)
    except gdb.error:
        raise gdb.GdbError(f"no type {name}: load the kernel with symbols (file target/strata/strata-kernel)")


def fields(value_type):
    """The fields of a struct or union that take space."""
    if value_type.code not in (STRUCT, UNION):
        return []
    return [f for f in value_type.fields() if f.name and hasattr(f, "bitpos") and f.type.sizeof]


def inner(value):
    """What is left when all wrappers are off."""
    while True:
        inside = fields(value.type)
        if value.type.code == UNION and inside:
            # MaybeUninit and the like: all fields overlap.
            value = value[inside[0]]
        elif len(inside) == 1 and inside[0].type.sizeof == value.type.sizeof:
            value = value[inside[0]]
        else:
            return value


def raw(value, size=None):
    """The bytes at the value's address as an unsigned number."""
    size = size or value.type.sizeof
    memory = gdb.selected_inferior().read_memory(int(value.address), size)
    return int.from_bytes(memory.tobytes(), "little")


def number(value):
    """An unsigned number: an integer, or whatever wraps one."""
    return raw(value)


def signed(value):
    """A signed number of the value's size."""
    bits = 8 * value.type.sizeof
    n = raw(value)
    return n - (1 << bits) if n >> (bits - 1) else n


def pointer(value):
    """The address in a reference, NonNull, AtomicPtr or an Option of them; 0 is null or None."""
    return raw(value, 8)


def at(address, type_name):
    """The value of that type at that address."""
    return gdb.Value(address).cast(type_named(type_name).pointer()).dereference()


def element(first, index):
    """`first` as the first of an array: the element with that index."""
    # Of a value with an enum in it gdb knows the size up to its last field only; the type itself has the whole.
    element_type = gdb.lookup_type(first.type.name) if first.type.name else first.type
    at = int(first.address) + index * element_type.sizeof
    return gdb.Value(at).cast(element_type.pointer()).dereference()


def item(array, index):
    """An element of an array."""
    return element(array[0], index)


def target(value):
    """What a NonNull or reference points to, of the pointer's own type."""
    return inner(value).dereference()


def bare_name(value_type):
    """The type's name without generic arguments."""
    return (value_type.strip_typedefs().name or "").split("<", 1)[0]


def find(value, wanted, pointers=4, seen=None):
    """The first value of type `wanted` (without generic arguments) inside `value`, also behind that many pointers; or None.

    Arrays are not searched, nor what a spin::Once does not have yet, nor an enum's variants but the one it has."""
    seen = set() if seen is None else seen
    value_type = value.type.strip_typedefs()
    key = (int(value.address) if value.address is not None else None, value_type.name)
    if key in seen:
        return None
    seen.add(key)
    name = bare_name(value_type)
    if name == wanted:
        return value
    if name == "spin::once::Once" and raw(value["status"], 1) != ONCE_COMPLETE:
        return None
    if value_type.code == POINTER:
        return find_behind(value, wanted, pointers, seen) if pointers else None
    for field in fields(value_type):
        if field.type.strip_typedefs().code in (STRUCT, UNION, POINTER):
            found = find(value[field], wanted, pointers, seen)
            if found is not None:
                return found
    return None


def find_behind(pointer_value, wanted, pointers, seen):
    """As find(), in what the pointer leads to; not every pointer leads anywhere."""
    inside = pointer_value.type.strip_typedefs().target().strip_typedefs()
    if inside.code != STRUCT or not inside.sizeof or int(pointer_value) < inside.alignof:
        return None
    try:
        return find(pointer_value.dereference(), wanted, pointers - 1, seen)
    except gdb.MemoryError:
        return None


def text(value):
    """What a &str says."""
    return value["data_ptr"].string("utf-8", length=number(value["length"])) if number(value["length"]) else ""


def names(enum_type):
    """Names of an enum without data, by number."""
    return {f.enumval: f.name.rsplit("::", 1)[-1] for f in type_named(enum_type).fields()}


def number_named(enum_type, name):
    """The number of an enum's variant."""
    return next(number for number, variant in names(enum_type).items() if variant == name)


def record(**values_by_name):
    """Prints a record: names and values in turn, on one line."""
    gdb.write(" ".join(f"{name} {value}" for name, value in values_by_name.items()) + "\n")


def argument_named(value_type, wanted):
    """The generic argument `wanted<...>` somewhere in the type's name, as a type; or None."""
    name = value_type.strip_typedefs().name or ""
    start = name.find(wanted + "<")
    if start < 0:
        return None
    depth = 0
    for end in range(start, len(name)):
        depth += {"<": 1, ">": -1}.get(name[end], 0)
        if name[end] == ">" and depth == 0:
            return type_named(name[start : end + 1])
    return None
