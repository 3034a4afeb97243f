"""The properties of a specification: expressions, where they must hold, and during which events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, cast, get_args

from verifier.errors import SpecError, nearest
from verifier.spec.expression import (
    AtRest,
    Binary,
    Expression,
    Handled,
    NoMishap,
    Progress,
    Restored,
    Resumed,
    Unary,
    Unreachable,
)
from verifier.spec.grammar import parse
from verifier.spec.model import Property, ScheduleItem, Verdict
from verifier.spec.operands import Scope
from verifier.spec.positions import locator

if TYPE_CHECKING:
    from verifier.asm.program import Program
    from verifier.spec.document import Fields, Value
    from verifier.spec.names import Names

At = Literal["outermost-return", "always"] | frozenset[int]
#: Where every function of the specification's ``calls`` is entered.
CALLS = "calls"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
_ITEM = re.compile(r"\s*(?P<event>\S+)(\s+(?P<how>\S+)\s+(?P<label>\S+))?\s*")


def read_properties(root: Fields, names: Names, program: Program) -> tuple[Property, ...]:
    """The properties in order. SpecError if there are none."""
    entries = root["properties"].entries("a mapping from names to properties")
    if not entries:
        raise root["properties"].error("there are no properties", "add 'name: {that: progress}'")
    calls = frozenset(names.code[key.text()] for key, _ in root.entries("calls"))
    return tuple(_property(key, value, names, program, calls) for key, value in entries)


def _property(key: Value, value: Value, names: Names, program: Program, calls: frozenset[int]) -> Property:
    name = key.text("a property's name")
    if not _NAME.fullmatch(name):
        raise key.error(f"'{name}' cannot name a property", "letters, digits, - and _")
    fields = value.fields(("that", "at", "during", "expect"), required=("that",))
    that = fields["that"]
    text = that.text("an expression")
    expression = parse(text, Scope(names, locator(that)))
    at = fields.get("at", lambda v: _at(v, expression, names, calls), _default_at(expression))
    during = fields.get("during", lambda v: _schedule(v, names, program), None)
    expect = fields.get("expect", lambda v: v.choice(get_args(Verdict), "verdict"), None)
    return Property(
        name, expression, " ".join(text.split()), at, during, cast("Verdict | None", expect), key.span
    )


def _default_at(expression: Expression) -> At:
    """Where a property must hold unless it says so: what speaks of the end, at the end."""
    if isinstance(expression, (Restored, AtRest, Handled)):
        return "outermost-return"
    if isinstance(expression, Unary):
        return _default_at(expression.operand)
    if isinstance(expression, Binary):
        sides = (_default_at(expression.left), _default_at(expression.right))
        return "outermost-return" if "outermost-return" in sides else "always"
    return "always"


def _at(value: Value, expression: Expression, names: Names, calls: frozenset[int]) -> At:
    """``calls``: where the functions of the specification's ``calls`` are entered."""
    if isinstance(expression, (NoMishap, Progress, Resumed, Unreachable)):
        raise value.error("this property speaks of every state: it has no place", "leave 'at' out")
    if not value.is_sequence and value.text("a label") in ("outermost-return", "always"):
        return cast("At", value.text())
    labels = value.one_or_more()
    if not labels:
        raise value.error("no label stands here", "leave 'at' out, or name a label")
    places = ("outermost-return", "always", CALLS)
    found: set[int] = set()
    for label in labels:
        word = label.text("a label")
        if word == CALLS:
            if not calls:
                raise label.error("the specification has no 'calls'", "name the labels")
            found |= calls
        elif word in names.code:
            found.add(names.code[word])
        else:
            hint = nearest(word, (*places, *names.code))
            raise label.error(f"'{word}' is no label of an instruction", hint)
    return frozenset(found)


def _schedule(value: Value, names: Names, program: Program) -> tuple[ScheduleItem, ...]:
    items = value.items()
    if not items:
        raise value.error("no event stands here", "leave 'during' out to speak of all runs")
    return tuple(_item(item, names, program) for item in items)


def _item(value: Value, names: Names, program: Program) -> ScheduleItem:
    text = value.text("an event, as in 'irq at label'")
    match = _ITEM.fullmatch(text)
    usage = "write EVENT, EVENT at LABEL, EVENT in LABEL, or '*'"
    if match is None or match["how"] not in (None, "at", "in"):
        raise value.error(f"'{text}' is no event of a schedule", usage)
    locate = locator(value)
    event, how, label = match["event"], match["how"], match["label"]
    if event == "*":
        if how is not None:
            raise value.error("'*' stands for any events anywhere", "write '*' alone")
        return ScheduleItem(event, None, text.strip())
    if event not in names.events:
        span = locate(*match.span("event"))
        hint = nearest(event, names.events) or f"the events are {', '.join(names.events)}"
        raise SpecError(f"'{event}' is no event of environment.events", span, hint)
    if label is None:
        return ScheduleItem(event, None, text.strip())
    addresses = addresses_of(how, label, names, program)
    if addresses is None:
        span = locate(*match.span("label"))
        raise SpecError(f"'{label}' is no label of an instruction", span, nearest(label, names.code))
    return ScheduleItem(event, addresses, " ".join(text.split()))


def addresses_of(how: str, label: str, names: Names, program: Program) -> range | frozenset[int] | None:
    """``at``: the label's address; ``in``: a hole's addresses, or the extent of the label."""
    if how == "in":
        hole = frozenset(i.address for i in program if i.hole == label)
        if hole:
            return hole
    if label not in names.code:
        return None
    return frozenset({names.code[label]}) if how == "at" else program.extent(label)
