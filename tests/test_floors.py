"""Data flows one way through the rooms of the package, and imports go with it: downward."""

import ast
from pathlib import Path

import pytest

import tensorstate

HOUSE = Path(tensorstate.__file__).parent
FLOORS = {"metrics": 0, "counting": 1, "storage": 2, "capture": 3, "report": 3, "cli": 4}

# A histogram, a layer and a run show themselves: their methods ask the room that draws, then only.
MAY_ASK_ABOVE = {"counting/showing.py", "storage/showing.py", "storage/reporting.py"}


def imports(node, outside_of_functions):
    """Yield the modules of the package that are imported below a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom) and child.module:
            names = [f"{child.module}.{name.name}" for name in child.names]
            yield from (name for name in names if name.startswith("tensorstate."))
        elif isinstance(child, ast.Import):
            yield from (n.name for n in child.names if n.name.startswith("tensorstate."))
        is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        is_for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not (outside_of_functions and (is_function or is_for_types)):
            yield from imports(child, outside_of_functions)


def above(path, outside_of_functions):
    """Return what a module imports from rooms above its own, or beside it."""
    room = path.relative_to(HOUSE).parts[0]
    found = imports(ast.parse(path.read_text()), outside_of_functions)
    rooms = {(name.split(".")[1], name) for name in found}
    return sorted(
        name
        for other, name in rooms
        if other in FLOORS and other != room and FLOORS[other] >= FLOORS[room]
    )


@pytest.mark.parametrize("room", FLOORS)
def test_imports_go_downward(room):
    modules = sorted((HOUSE / room).rglob("*.py"))
    assert modules
    asking = set()
    for path in modules:
        name = str(path.relative_to(HOUSE))
        assert above(path, outside_of_functions=True) == [], name
        if above(path, outside_of_functions=False):
            asking.add(name)
    assert asking == {name for name in MAY_ASK_ABOVE if name.startswith(f"{room}/")}


def test_what_has_no_room_is_below_all_that_have_one():
    faces = {"__init__.py", "__main__.py"}
    # What clusters are is asked by the command alone.
    faces.add("clusters.py")
    for path in sorted(HOUSE.glob("*.py")):
        if path.name not in faces:
            found = {name.split(".")[1] for name in imports(ast.parse(path.read_text()), False)}
            assert not found & FLOORS.keys(), path.name
