"""Every combination of the values of a matrix, less those excluded, with those included.

The rules are those that people know from continuous integration: an entry of `exclude` takes away every combination that has
all its values; an entry of `include` that contradicts no value of a combination adds its own to it, and where there is no such
combination it is one by itself.  Pure.  `count` tells how many there can be before any is made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Values = Mapping[str, str]


@dataclass(frozen=True)
class Combination:
    """What one task is made for: every value by its name, and those of them that its id is made of."""

    values: Values
    naming: Values

    def joined(self, other: Combination) -> Combination:
        return Combination({**self.values, **other.values}, {**self.naming, **other.naming})


def count(dimensions: Mapping[str, Sequence[str]], include: Sequence[Values] = ()) -> int:
    """Return how many combinations there are at most."""
    return (math.prod(map(len, dimensions.values())) if dimensions else 0) + len(include)


def combinations(
    dimensions: Mapping[str, Sequence[str]], exclude: Sequence[Values] = (), include: Sequence[Values] = ()
) -> list[Combination]:
    """Return the combinations in the order in which they are written, those that `include` makes last."""
    unwanted = _by_names(exclude)
    kept = []
    for chosen in itertools.product(*dimensions.values()) if dimensions else ():
        one = dict(zip(dimensions, chosen, strict=True))
        if not any(tuple(one.get(name) for name in names) in taken for names, taken in unwanted.items()):
            kept.append(one)
    more: list[dict[str, str]] = [{} for _ in kept]
    alone = []
    places: dict[tuple[str, ...], dict[tuple[str, ...], list[int]]] = {}
    for entry in include:
        names = tuple(name for name in dimensions if name in entry)
        if names not in places:  # every combination is looked at once for each set of names, not for each entry
            places[names] = {}
            for number, one in enumerate(kept):
                places[names].setdefault(tuple(one[name] for name in names), []).append(number)
        fits = places[names].get(tuple(entry[name] for name in names), ())
        for number in fits:
            more[number].update(entry)
        if not fits:
            in_order = {name: entry[name] for name in (*names, *entry)}
            alone.append(Combination(in_order, in_order))
    return [*(Combination({**one, **added}, one) for one, added in zip(kept, more, strict=True)), *alone]


def _by_names(entries: Sequence[Values]) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    found: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for entry in entries:
        names = tuple(sorted(entry))
        found.setdefault(names, set()).add(tuple(entry[name] for name in names))
    return found


def takes_nothing_away(entry: Values, dimensions: Mapping[str, Sequence[str]]) -> bool:
    """Whether an entry of `exclude` names a combination that there is not anyway."""
    return any(value not in dimensions.get(name, ()) for name, value in entry.items())
