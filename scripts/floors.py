"""Print the lowest versions that pyproject.toml allows, as constraints for pip.

    python scripts/floors.py EXTRA...

One line, name==version, for each dependency and each requirement of these extras. Where two of them
name a package, the higher floor counts: it is the lowest that both allow.
"""

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version


def floors(project: dict, extras: list[str]) -> dict[str, Version]:
    """Return the lowest version of each package that a project with these extras requires."""
    optional = project["optional-dependencies"]
    unknown = sorted(set(extras) - set(optional))
    if unknown:
        raise ValueError(f"no extra of the project: {', '.join(unknown)}")
    lowest: dict[str, Version] = {}
    for line in [*project["dependencies"], *(line for extra in extras for line in optional[extra])]:
        requirement = Requirement(line)
        bounds = [c.version for c in requirement.specifier if c.operator in (">=", "==", "~=")]
        if len(bounds) != 1:
            raise ValueError(f"{line!r} in pyproject.toml has no lowest version: use NAME>=NUMBER")
        name, version = canonicalize_name(requirement.name), Version(bounds[0])
        lowest[name] = max(version, lowest.get(name, version))
    return lowest


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    try:
        found = floors(tomllib.loads(text)["project"], sys.argv[1:])
    except ValueError as error:
        sys.exit(f"floors.py: {error}.")
    for name in sorted(found):
        print(f"{name}=={found[name]}")
