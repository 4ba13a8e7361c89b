"""The rules of a grammar, and what they lead to: recursion without an end, and more than anybody can follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .errors import GrammarError

# llama.cpp follows each way from a rule to a first character, and its search for left recursion calls itself: what is
# taken here should be taken there.
MAX_WAYS = 100_000
MAX_CHAIN = 4000


@dataclass(frozen=True)
class TokenReference:
    """A token that a grammar names, as in ``<[1234]>`` or ``<think>``.

    Attributes
    ----------
    text : str
        With its angle brackets.
    id : int or None
        Where it is given by number.
    negated : bool
        Whether any other token is meant.
    line, column : int
        Where it stands, from 1.
    """

    text: str
    id: int | None
    negated: bool
    line: int
    column: int


class CharSet(NamedTuple):
    """What one character may be, or may not be.

    Attributes
    ----------
    negated : bool
    ranges : tuple of (int, int)
        Code points, with the last of each range.
    """

    negated: bool
    ranges: tuple[tuple[int, int], ...]


class Item(NamedTuple):
    """A part of an alternative.

    Attributes
    ----------
    rule : int or None
        The rule that it refers to; None for characters and tokens.
    n_elements : int
        How many of llama.cpp's elements it takes.
    terminals : tuple of CharSet or TokenReference
        One behind the other.
    """

    rule: int | None
    n_elements: int
    terminals: tuple[CharSet | TokenReference, ...] = ()


@dataclass
class Rule:
    """A rule that was read, or that a group or a repetition in one stands for.

    Attributes
    ----------
    index : int
        Where the rule begins in the text.
    alternates : list of list of Item
    """

    index: int
    alternates: list[list[Item]]


Graph = dict[int, list[tuple[int, bool]]]


def check_rules(text: str, rules: dict[int, Rule], error_at: Callable[[str, int, str], GrammarError]) -> set[int]:
    """Refuse left recursion, and rules that begin in too many ways; return those that can be empty."""
    empty_at_once = {rule for rule, found in rules.items() if not all(found.alternates)}
    nullable = can_be_empty(rules)
    # llama.cpp finds recursion behind rules with an empty alternative only, but refuses all of that.
    for found in sorted(rules[rule].index for rule in cycles(left_corners(rules, empty_at_once), tails=True)):
        raise error_at(text, found, "left recursion: a rule begins with itself")
    # Of the rest it would follow what leaves something to do behind it for ever.
    for found in sorted(rules[rule].index for rule in cycles(left_corners(rules, nullable), tails=False)):
        raise error_at(text, found, "left recursion behind what may be empty: a rule begins with itself")
    check_ways(text, rules, nullable, error_at)
    return nullable


def can_be_empty(rules: dict[int, Rule]) -> set[int]:
    """Return the rules that match nothing at all, too."""
    users: dict[int, list[tuple[int, int]]] = {}
    missing: dict[tuple[int, int], int] = {}
    found: list[int] = []
    for rule, body in rules.items():
        for number, items in enumerate(body.alternates):
            references = [item.rule for item in items if item.rule is not None]
            if len(references) < len(items):
                continue
            missing[rule, number] = len(references)
            for reference in references:
                users.setdefault(reference, []).append((rule, number))
            if not references:
                found.append(rule)
    empty = set(found)
    while found:
        for alternate in users.get(found.pop(), ()):
            missing[alternate] -= 1
            if not missing[alternate] and alternate[0] not in empty:
                empty.add(alternate[0])
                found.append(alternate[0])
    return empty


def left_corners(rules: dict[int, Rule], empty: set[int]) -> Graph:
    """Return for each rule those that it may begin with, and whether nothing comes behind."""
    graph: Graph = {rule: [] for rule in rules}
    for rule, body in rules.items():
        for items in body.alternates:
            for number, item in enumerate(items):
                if item.rule is None:
                    break
                graph[rule].append((item.rule, number == len(items) - 1))
                if item.rule not in empty:
                    break
    return graph


def cycles(graph: Graph, tails: bool) -> Iterator[int]:
    """Yield rules that lie on a cycle; without `tails` only if something comes behind a step of it."""
    component = components(graph)
    for rule, edges in graph.items():
        for other, tail in edges:
            if component[rule] == component[other] and (tails or not tail):
                yield rule


def components(graph: Graph) -> dict[int, int]:
    """Number the strongly connected components, by Tarjan's algorithm without recursion."""
    number: dict[int, int] = {}
    low: dict[int, int] = {}
    component: dict[int, int] = {}
    stack: list[int] = []
    for start in graph:
        if start in number:
            continue
        work = [(start, iter(graph[start]))]
        number[start] = low[start] = len(number)
        stack.append(start)
        while work:
            rule, edges = work[-1]
            for other, _ in edges:
                if other not in number:
                    number[other] = low[other] = len(number)
                    stack.append(other)
                    work.append((other, iter(graph[other])))
                    break
                if other not in component:
                    low[rule] = min(low[rule], number[other])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[rule])
                if low[rule] == number[rule]:
                    while True:
                        member = stack.pop()
                        component[member] = number[rule]
                        if member == rule:
                            break
    return component


def check_ways(
    text: str, rules: dict[int, Rule], nullable: set[int], error_at: Callable[[str, int, str], GrammarError]
) -> None:
    """Count the ways from each rule to a first character, and how many rules lie on the longest."""
    graph = left_corners(rules, nullable)
    ways: dict[int, int] = {}
    chain: dict[int, int] = {}
    for start in graph:
        work = [(start, iter(graph[start]))]
        entered = {start}
        while work:
            rule, edges = work[-1]
            for other, _ in edges:
                if other not in ways and other not in entered:
                    entered.add(other)
                    work.append((other, iter(graph[other])))
                    break
            else:
                work.pop()
                own = len(rules[rule].alternates)
                ways[rule] = own + sum(ways.get(other, 0) for other, _ in graph[rule])
                chain[rule] = 1 + max((chain.get(other, 0) for other, _ in graph[rule]), default=0)
                if ways[rule] > MAX_WAYS:
                    raise error_at(text, rules[rule].index, f"the rule can begin in more than {MAX_WAYS} ways")
                if chain[rule] > MAX_CHAIN:
                    raise error_at(text, rules[rule].index, f"more than {MAX_CHAIN} rules begin with one another")
