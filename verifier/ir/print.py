"""The SSA of a program as text, for reading: ``verifier lift``.

Constants stand where they are used, in place of their ``%n``, and what is made only to be put into a cell is
written as that cell's definition. Inside a whole program cells carry versions (`verifier.ir.ssa`) and are
written where they are read, and what only serves dead cells is left out; without versions a ``get`` is a line
of its own, since it reads the state before the instruction wherever it stands.
"""

from __future__ import annotations

from collections import Counter
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from verifier.ir.cells import CELL_NAMES
from verifier.ir.cfg import build
from verifier.ir.effects import ACTING
from verifier.ir.liveness import live_cells, live_out
from verifier.ir.ops import Access
from verifier.ir.ssa import Step, to_ssa
from verifier.ir.words import stack_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from verifier.asm.program import Program
    from verifier.ir.cfg import BasicBlock, Cfg, Exit
    from verifier.ir.ops import Block, Operation, Value
    from verifier.ir.ssa import Name, Phi, SsaBlock

#: The column where remarks start, and the one where lines of them end.
_REMARK: Final = 46
_WIDTH: Final = 100
_INDENT: Final = "    "
#: Constants from here on may be addresses; below, and this near to 2^64, they are numbers.
_LARGE: Final = 0x1_0000


def render_block(block: Block) -> str:
    """The operations of one instruction, one a line, without versions; no newline at the end."""
    return "\n".join(_operations(block, _bare(block), hex))


def render_program(blocks: Mapping[int, Block], program: Program, entries: Iterable[int]) -> str:
    """The whole program in SSA form: basic blocks under their labels, instructions, operations, ways out.

    What cannot be reached from ``entries`` is shown without versions. Raises InternalError if an entry is no
    instruction.
    """
    page = _Page(program, build(blocks, entries))
    basic_of = {b.address: basic for basic in page.cfg.blocks.values() for b in basic.blocks}
    lines: list[str] = []
    reached = True
    for address in sorted(blocks):
        basic = basic_of.get(address)
        if basic is None:
            lines += page.unreached(blocks[address], is_first=reached)
        elif address == basic.address:
            lines += page.basic_block(basic)
        reached = basic is not None
    return "\n".join(lines).strip("\n") + "\n"


class _Page:
    """What every line needs to know: names of addresses, versions, liveness, where RSP stands."""

    def __init__(self, program: Program, cfg: Cfg) -> None:
        self.program = program
        self.cfg = cfg
        self.ssa = to_ssa(cfg)
        self.live = live_cells(cfg)
        self.rsp = stack_offsets(cfg)

    def describe(self, address: int) -> str:
        return _printable(self.program.describe(address))

    def basic_block(self, basic: BasicBlock) -> list[str]:
        ssa = self.ssa.blocks[basic.address]
        lines = ["", self._head(basic.address), *self._ways_in(basic), *self._phis(ssa)]
        for instruction, live in zip(ssa.instructions, self._live_after(basic), strict=True):
            block = instruction.block
            if block.address != basic.address and self.program.label_at(block.address):
                lines.append(self._head(block.address))
            lines.append(self._source(block))
            kept, dead = _kept(block, instruction.steps, live)
            lines += _operations(block, kept, self.describe)
            lines += [f"{_INDENT}; dead: {' '.join(dead)}"] if dead else []
        return [*lines, *self._ways_out(basic)]

    def _live_after(self, basic: BasicBlock) -> list[frozenset[str]]:
        """Per instruction of the basic block, the cells live behind it."""
        return [*(self.live[b.address] for b in basic.blocks[1:]), live_out(basic, self.live)]

    def unreached(self, block: Block, is_first: bool) -> list[str]:
        is_head = is_first or self.program.label_at(block.address)
        lines = ["", f"{self._head(block.address)}, not reached"] if is_head else []
        return [*lines, self._source(block), *_operations(block, _bare(block), self.describe)]

    def _head(self, address: int) -> str:
        return f"{self.describe(address) + ':':{_REMARK}}  ; {address:#x}"

    def _source(self, block: Block) -> str:
        span = block.instruction.span
        text = f"  {_printable(block.instruction.text)}"
        return f"{text:{_REMARK}}  ; {_printable(span.file)}:{span.line}"

    def _ways_in(self, basic: BasicBlock) -> list[str]:
        ways = [self.describe(p) for p in basic.predecessors]
        if basic.address in self.cfg.roots:
            ways.insert(0, "outside")
        offset = self.rsp[basic.address]
        known = offset is not None and basic.address not in self.cfg.roots
        return [
            *_remark("from", ", ".join(ways)),
            *(_remark("rsp ", f"at entry {offset:+#x}" if offset else "as at entry") if known else ()),
            *_remark("live", _cell_set(self.live[basic.address])),
        ]

    def _ways_out(self, basic: BasicBlock) -> list[str]:
        ways = [self.describe(s) for s in basic.successors]
        ways += [_exit(exit_) for exit_ in basic.exits]
        back = f"; back at {self.describe(basic.resumes)}" if basic.resumes is not None else ""
        return _remark("to  ", ", ".join(ways) + back)

    def _phis(self, ssa: SsaBlock) -> list[str]:
        lines = _aligned([(str(phi.result), f"phi {self._phi_args(phi)}") for phi in ssa.phis])
        return [part for line in lines for part in _wrapped(line, "", _INDENT * 3)]

    def _phi_args(self, phi: Phi) -> str:
        """Each name once, with the ways that it comes by."""
        ways: dict[Name, list[str]] = {}
        for way, name in phi.args:
            ways.setdefault(name, []).append("outside" if way is None else self.describe(way))
        return ", ".join(f"{name} from {' '.join(sources)}" for name, sources in ways.items())


class _Writer:
    """Writes the operations of one instruction, a line each: what is defined, and by what."""

    def __init__(self, steps: Sequence[Step], terminator: Operation, describe: Callable[[int], str]) -> None:
        self.describe = describe
        used = Counter(a for step in steps for a in step.operation.args)
        used.update(terminator.args)
        makers = {step.operation.result: step for step in steps if step.operation.result is not None}
        fixed = {"get", "load"} if any(s.operation.opcode == "store" for s in steps) else {"get"}
        self.shown = {value: _shown(value, step, describe) for value, step in makers.items()}
        self.constants = {value for value, step in makers.items() if step.operation.opcode == "const"}
        #: Values written where they are used, without a line of their own.
        self.inline = self.constants | {
            v for v, step in makers.items() if step.operation.opcode == "get" and step.uses
        }
        #: Makers of values that a put alone uses: they are written there. A load stays before the stores.
        self.moved: dict[Value, Step] = {
            value: makers[value]
            for value in (s.operation.args[0] for s in steps if s.operation.opcode == "put")
            if used[value] == 1 and value not in self.inline and makers[value].operation.opcode not in fixed
        }

    def line(self, step: Step) -> tuple[str, str] | None:
        """None where the operation is written elsewhere."""
        operation, result = step.operation, step.operation.result
        if result is not None:
            if result in self.moved or result in self.inline:
                return None
            return f"{result}:{result.width}", self.call(operation, step)
        if operation.opcode == "put":
            name = str(step.defines[0]) if step.defines else str(operation.attr)
            return name, self.put(operation.args[0], step)
        return ", ".join(map(str, step.defines)), self.call(operation, step)

    def put(self, value: Value, step: Step) -> str:
        maker = self.moved.get(value)
        text = self.call(maker.operation, maker) if maker else self.shown[value]
        return f"{text}, or {step.uses[0]} if skipped" if step.uses else text

    def call(self, operation: Operation, step: Step | None = None) -> str:
        opcode, attr = operation.opcode, operation.attr
        args = [self.shown[a] for a in operation.args]
        if opcode == "concat":
            args = [
                f"{self.shown[a]}:{a.width}" if a in self.constants else self.shown[a] for a in operation.args
            ]
        state = str(step.uses[0]) if step and step.uses and opcode != "get" else ""
        if isinstance(attr, Access):
            size = f":{operation.args[1].width}" if opcode == "store" else ""
            segment = f"{attr.segment}:" if attr.segment else ""
            words = [opcode + size, state, f"[{segment}{args[0]}]", *args[1:]]
        elif opcode == "fault_if":
            error = "" if args[1] == "0x0" else f"({args[1]})"
            words = ["fault", f"#{attr}{error}", "if", args[0]]
        elif opcode in ("jump", "branch") and isinstance(attr, int):
            words = [opcode, *args, "to", self.describe(attr)]
        else:
            words = [opcode, state, *args, *_attribute(attr)]
        return " ".join(filter(None, words))


def _bare(block: Block) -> list[Step]:
    """The operations without names."""
    return [Step(operation, (), ()) for operation in block]


def _kept(block: Block, steps: Sequence[Step], live: frozenset[str]) -> tuple[list[Step], list[str]]:
    """The operations that act or serve a live cell, and the cells whose new values are dead."""
    wanted = set(block.terminator.args)
    kept: list[Step] = []
    dead: list[str] = []
    for step in reversed(steps):
        operation = step.operation
        if operation.opcode == "put" and not (step.defines and operation.attr in live):
            dead.append(str(operation.attr))
        elif operation.opcode in ACTING or operation.opcode == "put" or operation.result in wanted:
            wanted.update(operation.args)
            kept.append(step)
    return kept[::-1], sorted(dead, key=CELL_NAMES.index)


def _operations(block: Block, steps: Sequence[Step], describe: Callable[[int], str]) -> list[str]:
    writer = _Writer(steps, block.terminator, describe)
    pairs = [line for line in map(writer.line, steps) if line is not None]
    if block.terminator.opcode != "next":
        pairs.append(("", writer.call(block.terminator)))
    return _aligned(pairs)


def _shown(value: Value, maker: Step, describe: Callable[[int], str]) -> str:
    """How the value is written where it is used."""
    operation = maker.operation
    if operation.opcode == "const" and isinstance(operation.attr, int):
        return _constant(operation.attr, value.width, describe)
    if operation.opcode == "get" and maker.uses:
        return str(maker.uses[0])
    return str(value)


def _constant(value: int, width: int, describe: Callable[[int], str]) -> str:
    """Hexadecimal; large 64-bit numbers as negative ones or by the label they stand at, if any."""
    if width != 64 or value < _LARGE:
        return f"{value:#x}"
    return f"-{(1 << 64) - value:#x}" if value >= (1 << 64) - _LARGE else describe(value)


def _attribute(attr: object) -> Sequence[str]:
    if isinstance(attr, tuple):
        return (f"{attr[0]}..{attr[1]}",)
    return () if attr is None else (str(attr),)


def _exit(exit_: Exit) -> str:
    return f"({exit_.kind})" if exit_.target is None else f"({exit_.kind} to {exit_.target:#x})"


def _aligned(pairs: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(left) for left, _ in pairs), default=0)
    return [f"{_INDENT}{left:{width}} = {right}" if left else f"{_INDENT}{right}" for left, right in pairs]


def _cell_set(cells: Iterable[str]) -> str:
    """The cells in their order, or the few that are missing."""
    present = set(cells)
    missing = [name for name in CELL_NAMES if name not in present]
    if len(missing) * 2 > len(CELL_NAMES):
        return " ".join(name for name in CELL_NAMES if name in present) or "nothing"
    return "all" + (f" but {' '.join(missing)}" if missing else "")


def _remark(title: str, text: str) -> list[str]:
    return _wrapped(text, f"  ; {title} ", "  ;      ")


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _printable(text: str) -> str:
    """Text from a file as one line that cannot steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
