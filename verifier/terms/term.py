"""Hash-consed bit-vector terms: equal structure is the same object, so equality is identity.

Each term carries what folding needs: an unsigned interval, its known low bits, its variables, and a *shape*: the
term with its havoc variables numbered by first occurrence, so that two terms alike but for the names of havoc
variables have one shape (used to recognise a state seen before).
"""

from __future__ import annotations

from itertools import count

Attr = int | str | tuple[int, int] | None

_table: dict[tuple[object, ...], Term] = {}
_shapes: dict[tuple[object, ...], int] = {}
_ids = count()
_NONE: frozenset[Term] = frozenset()


class Term:
    """A bit-vector of ``width`` bits. Made by the functions of ``verifier.terms`` only; never changed.

    ``op`` is ``const`` (``attr`` its value), ``var`` (``attr`` its name), ``havoc`` (``attr`` its serial number),
    ``param`` (``attr`` a location whose value is left open, to be put in later: `verifier.terms.substitute`), or an
    operation. One-bit terms are truth values. ``lo`` and ``hi`` bound the unsigned value; the lowest ``known``
    bits are those of ``residue``.
    """

    __slots__ = (
        "args",
        "attr",
        "havocs",
        "hi",
        "id",
        "known",
        "lo",
        "op",
        "params",
        "residue",
        "shape",
        "support",
        "width",
    )

    op: str
    args: tuple[Term, ...]
    attr: Attr
    width: int
    id: int
    lo: int
    hi: int
    known: int
    residue: int
    support: frozenset[Term]
    havocs: tuple[Term, ...]
    params: frozenset[Term]
    shape: int

    @property
    def is_const(self) -> bool:
        return self.op == "const"

    @property
    def value(self) -> int:
        """The value of a ``const``."""
        assert isinstance(self.attr, int)
        return self.attr

    def __repr__(self) -> str:
        return show(self)


def intern(
    op: str,
    args: tuple[Term, ...],
    width: int,
    attr: Attr = None,
    lo: int = 0,
    hi: int | None = None,
    known: int = 0,
    residue: int = 0,
) -> Term:
    """The one term of this structure, unfolded: only the constructors in this folder call it."""
    key: tuple[object, ...] = (op, tuple([a.id for a in args]), attr, width)
    if op == "var":
        key += (lo, hi, known)  # two models may give one name different bounds
    found = _table.get(key)
    if found is not None:
        return found
    term = Term()
    term.op, term.args, term.attr, term.width = op, args, attr, width
    term.id = next(_ids)
    term.lo, term.hi = lo, (1 << width) - 1 if hi is None else hi
    term.known, term.residue = known, residue
    _set_variables(term)
    _table[key] = term
    return term


def _set_variables(term: Term) -> None:
    if term.op in ("var", "havoc", "param"):
        term.support = frozenset((term,))
        term.havocs = (term,) if term.op == "havoc" else ()
        term.params = term.support if term.op == "param" else _NONE
    elif not term.args:
        term.support, term.havocs, term.params = _NONE, (), _NONE
    else:
        first = term.args[0].support
        term.support = first.union(*[a.support for a in term.args[1:]]) if len(term.args) > 1 else first
        term.params = _NONE.union(*[a.params for a in term.args if a.params])
        term.havocs = tuple(dict.fromkeys([h for a in term.args for h in a.havocs]))
    if not term.havocs:
        term.shape = -1 - term.id
        return
    place = {h: i for i, h in enumerate(term.havocs)}
    pattern = tuple([(a.shape, tuple([place[h] for h in a.havocs])) for a in term.args])
    attr = None if term.op == "havoc" else term.attr
    term.shape = _shapes.setdefault((term.op, attr, term.width, pattern), len(_shapes))


def const(value: int, width: int) -> Term:
    """The constant ``value`` modulo 2^width."""
    value &= (1 << width) - 1
    return intern("const", (), width, value, value, value, width, value)


def var(name: str, width: int, lo: int = 0, hi: int | None = None, alignment: int = 1) -> Term:
    """A variable that means one value for a whole run; within one run a name has one set of bounds."""
    return intern("var", (), width, name, lo, hi, alignment.bit_length() - 1, 0)


def havoc(serial: int, width: int) -> Term:
    """An arbitrary value; states that differ only in the serial numbers of their havoc variables are alike."""
    return intern("havoc", (), width, serial)


def param(location: int, width: int) -> Term:
    """What a location held at a moment that a search has not fixed."""
    return intern("param", (), width, location)


TRUE = const(1, 1)
FALSE = const(0, 1)


def show(term: Term) -> str:
    """A term as readable text, for reasons and debugging."""
    if term.op == "const":
        return hex(term.value) if term.value > 9 else str(term.value)
    if term.op == "var":
        return str(term.attr)
    if term.op in ("havoc", "param"):
        return f"{'?' if term.op == 'havoc' else '@'}{term.attr}"
    if term.op == "extract":
        assert isinstance(term.attr, tuple)
        high, low = term.attr
        return f"{show(term.args[0])}[{high}]" if high == low else f"{show(term.args[0])}[{high}:{low}]"
    return f"({term.op} {' '.join(show(a) for a in term.args)})"
