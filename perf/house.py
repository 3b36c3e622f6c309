"""``python -m ovd_bench.perf.house [FOLDER]``: rooms of a package, arrows between them, floors, loose files, circles.

A room is a folder or a loose file directly below the package. An arrow leads from a room to a room whose modules it
imports, wherever in a file the import is. The floor of a room is the length of the longest path down from it; rooms in
a circle share a floor.
"""

from __future__ import annotations

import argparse
import ast
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class House:
    """Structure of a package according to its imports.

    Attributes:
        arrows: per room, the rooms that it imports.
        loose: rooms that are single files.
    """

    arrows: dict[str, frozenset[str]]
    loose: frozenset[str]

    def circles(self) -> list[frozenset[str]]:
        """Groups of two or more rooms that can reach one another."""
        below = {room: self._below(room) for room in self.arrows}
        groups = {frozenset(other for other in below[room] if room in below[other]) | {room} for room in self.arrows}
        return sorted((group for group in groups if len(group) > 1), key=sorted)

    def floors(self) -> dict[str, int]:
        """For each room, the number of arrows on the longest path down; a circle counts as one room."""
        group_of = {room: frozenset({room}) for room in self.arrows}
        for circle in self.circles():
            group_of |= dict.fromkeys(circle, circle)
        heights: dict[frozenset[str], int] = {}

        def height(group: frozenset[str]) -> int:
            if group not in heights:
                below = {group_of[other] for room in group for other in self.arrows[room]} - {group}
                heights[group] = 1 + max(map(height, below), default=-1)
            return heights[group]

        return {room: height(group) for room, group in group_of.items()}

    def _below(self, room: str) -> set[str]:
        found: set[str] = set()
        waiting = [room]
        while waiting:
            for other in self.arrows[waiting.pop()] - found:
                found.add(other)
                waiting.append(other)
        return found


def imported(path: Path) -> set[str]:
    """Dotted names of all modules and names that a file imports, wherever the import is."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def survey(package: Path) -> House:
    """The house of a package.

    Args:
        package: its folder.
    """
    rooms = {
        path.stem: path
        for path in package.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
    }
    arrows = {}
    for room, path in rooms.items():
        names = {name for file in ([path] if path.is_file() else path.rglob("*.py")) for name in imported(file)}
        parts = [name.split(".") for name in names]
        found = {
            part[part.index(package.name) + 1]
            for part in parts
            if package.name in part[:2] and part[-1] != package.name
        }
        arrows[room] = frozenset(found & rooms.keys() - {room})
    return House(arrows, frozenset(room for room, path in rooms.items() if path.is_file()))


def main() -> None:
    """Print the house."""
    parser = argparse.ArgumentParser(
        prog="python -m ovd_bench.perf.house", description="Rooms, arrows and floors of a package."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "benchmarks", help="folder of the package")
    house = survey(parser.parse_args().folder)
    floors = house.floors()
    table = Table("floor", "room", "imports")
    for room in sorted(floors, key=lambda room: (-floors[room], room)):
        table.add_row(
            str(floors[room]), room + (".py" if room in house.loose else ""), ", ".join(sorted(house.arrows[room]))
        )
    console = Console()
    console.print(table)
    arrows = sum(map(len, house.arrows.values()))
    storeys = len(set(floors.values()))
    counts = f"{len(house.arrows)} rooms, {arrows} arrows, {storeys} floors, {len(house.loose)} loose files"
    console.print(counts, highlight=False)
    for circle in house.circles():
        console.print("circle:", ", ".join(sorted(circle)), highlight=False)


if __name__ == "__main__":
    main()
