"""Generate the built-in tasks.

The questions are generated from random numbers and from tables included in the package.  The random seed is fixed, so
the questions are the same on every machine.
"""

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

from probemap.reading.names import ADJECTIVE
from probemap.records import Example, Task

GEONAMES = "GeoNames (https://www.geonames.org), CC BY 4.0"


def _table(name: str) -> list[dict[str, str]]:
    """Read a table included in the package, skipping its comment lines."""
    text = files("probemap.tasks").joinpath("data", name).read_text(encoding="utf-8")
    return list(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


def _split(field: str) -> list[str]:
    return field.split(";") if field else []


def _cities() -> Task:
    countries = _table("countries.csv")
    names = {row["country"]: (row["country"], *_split(row["other_names"])) for row in countries}
    examples = tuple(
        Example(f"city-{row['city']}", f"In which country is the city of {row['city']}?", names[row["country"]])
        for row in _table("cities.csv")
    )
    possible = tuple(
        (*names[row["country"]], *(word + ADJECTIVE for word in _split(row["adjectives"]))) for row in countries
    )
    return Task("cities", examples, "names", possible=possible, max_new_tokens=28, source=GEONAMES)


def _arithmetic() -> Task:
    """Return a task with 120 distinct questions in each of five forms.  The questions of each form are sorted by their
    operands."""
    forms: list[tuple[str, Callable[[int, int], int], range, range]] = [
        ("What is {a} + {b}?", lambda a, b: a + b, range(1, 15), range(1, 15)),
        ("What is {a} - {b}?", lambda a, b: a - b, range(6, 30), range(1, 6)),
        ("What is {a} times {b}?", lambda a, b: a * b, range(2, 13), range(2, 13)),
        ("What is half of {a}?", lambda a, b: a // 2, range(2, 242, 2), range(1)),
        ("What is {a} + {b}? Give the sum only.", lambda a, b: a + b, range(10, 60, 3), range(2, 20)),
    ]
    generator = random.Random(0)
    examples: list[Example] = []
    for template, result, first_operands, second_operands in forms:
        pairs = [(a, b) for a in first_operands for b in second_operands]
        for a, b in sorted(generator.sample(pairs, 120)):
            question = template.format(a=a, b=b)
            examples.append(Example(f"arithmetic-{len(examples):03d}", question, (str(result(a, b)),)))
    return Task("arithmetic", tuple(examples), "numbers", max_new_tokens=40, source="generated, seed 0")


def _compare() -> Task:
    """Return a task with random pairs of countries, one of which has at least twice as many inhabitants as the
    other."""
    countries = [row for row in _table("countries.csv") if row["population_millions"]]
    millions = [(row["country"], float(row["population_millions"])) for row in countries]
    possible = tuple((row["country"], *_split(row["other_names"]), *_split(row["adjectives"])) for row in countries)
    generator = random.Random(0)
    pairs: dict[frozenset[str], Example] = {}
    while len(pairs) < 600:
        (a, millions_a), (b, millions_b) = generator.sample(millions, 2)
        if max(millions_a, millions_b) < 2 * min(millions_a, millions_b) or frozenset({a, b}) in pairs:
            continue
        question = f"Which has more inhabitants, {a} or {b}?"
        larger = a if millions_a > millions_b else b
        pairs[frozenset({a, b})] = Example(f"compare-{len(pairs):03d}", question, (larger,), choices=(a, b))
    shots = tuple(
        (
            f"Which has more inhabitants, {a} or {b}?",
            f"{larger}, because it is home to more people than {smaller}.",
        )
        for a, b, larger, smaller in (
            ("Iceland", "Egypt", "Egypt", "Iceland"),
            ("Japan", "Malta", "Japan", "Malta"),
        )
    )
    return Task(
        "compare", tuple(pairs.values()), "names", possible=possible, shots=shots, max_new_tokens=32, source=GEONAMES
    )


@dataclass(frozen=True)
class BuiltInTask:
    """A built-in task, which is generated when it is loaded."""

    description: str
    """One-line description printed by ``probemap list tasks``."""
    load: Callable[[], Task]


TASKS: dict[str, BuiltInTask] = {
    "cities": BuiltInTask("In which country is the city of …? (several accepted names per country)", _cities),
    "arithmetic": BuiltInTask("sums, differences, products and halves of increasing difficulty", _arithmetic),
    "compare": BuiltInTask("Which has more inhabitants, A or B? (two choices, two worked examples)", _compare),
}
"""The built-in tasks, keyed by name."""
