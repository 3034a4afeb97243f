"""The SSA of a program as text, for reading: ``verifier lift``.

Constants and cells read stand where they are used, in place of their ``%n``; everything else is one line an
operation, in order. Inside a whole program the cells carry versions (`verifier.ir.ssa`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from verifier.ir.cells import CELL_NAMES
from verifier.ir.cfg import LEAVES, build
from verifier.ir.effects import uses
from verifier.ir.liveness import live_cells
from verifier.ir.ops import Access
from verifier.ir.ssa import Step, to_ssa
from verifier.ir.words import stack_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from verifier.asm.program import Program
    from verifier.ir.cfg import BasicBlock, Cfg
    from verifier.ir.ops import Block, Operation, Value
    from verifier.ir.ssa import Phi, SsaBlock

#: The column where remarks start.
_REMARK: Final = 46
_INDENT: Final = "    "


def render_block(block: Block) -> str:
    """The operations of one instruction, one a line, without versions; no newline at the end."""
    steps = [Step(operation, (), ()) for operation in block]
    return "\n".join(_operations(block, steps, hex))


def render_program(blocks: Mapping[int, Block], program: Program, entries: Iterable[int]) -> str:
    """The whole program in SSA form: basic blocks under their labels, instructions, operations, ways out.

    What cannot be reached from ``entries`` is shown without versions. Raises InternalError if an entry is no
    instruction.
    """
    page = _Page(program, build(blocks, entries))
    basic_of = {b.address: basic for basic in page.cfg.blocks.values() for b in basic.blocks}
    lines: list[str] = []
    for address in sorted(blocks):
        if address not in basic_of:
            lines += page.unreached(blocks[address])
        elif address == basic_of[address].address:
            lines += page.basic_block(basic_of[address])
    return "\n".join(lines).strip("\n") + "\n"


class _Page:
    """What every line needs to know: names of addresses, versions, liveness, where RSP stands."""

    def __init__(self, program: Program, cfg: Cfg) -> None:
        self.program = program
        self.cfg = cfg
        self.ssa = to_ssa(cfg)
        self.live = live_cells(cfg)
        self.rsp = stack_offsets(cfg)

    def basic_block(self, basic: BasicBlock) -> list[str]:
        ssa = self.ssa.blocks[basic.address]
        lines = ["", self._head(basic.address)]
        lines += [f"  ; {remark}" for remark in self._remarks(basic)]
        lines += self._phis(ssa)
        for instruction in ssa.instructions:
            block = instruction.block
            if block.address != basic.address and self.program.label_at(block.address):
                lines.append(self._head(block.address))
            lines.append(self._source(block))
            lines += _operations(block, instruction.steps, self.program.describe)
        return lines + [f"  ; {remark}" for remark in self._ways_out(basic)]

    def unreached(self, block: Block) -> list[str]:
        lines = ["", self._head(block.address) + "  not reached"] if self._is_head(block.address) else []
        lines.append(self._source(block))
        return lines + _operations(block, [Step(o, (), ()) for o in block], self.program.describe)

    def _is_head(self, address: int) -> bool:
        """Whether unreached code needs a line of its own here: at a label, or after code that is reached."""
        before = (b for basic in self.cfg.blocks.values() for b in basic.blocks)
        return bool(self.program.label_at(address)) or any(
            b.instruction.next_address == address for b in before
        )

    def _head(self, address: int) -> str:
        return _remarked(f"{self.program.describe(address)}:", f"{address:#x}")

    def _source(self, block: Block) -> str:
        span = block.instruction.span
        return _remarked(f"  {_printable(block.instruction.text)}", f"{_printable(span.file)}:{span.line}")

    def _remarks(self, basic: BasicBlock) -> list[str]:
        ways = [*(["outside"] if basic.address in self.cfg.roots else []), *self._names(basic.predecessors)]
        offset = self.rsp[basic.address]
        rsp = (
            "" if offset is None or basic.address in self.cfg.roots else f"; rsp is rsp at entry {offset:+#x}"
        )
        return [f"from {', '.join(ways)}{rsp}", f"live {_cell_set(self.live[basic.address])}"]

    def _phis(self, ssa: SsaBlock) -> list[str]:
        def args(phi: Phi) -> str:
            ways = ("outside" if way is None else self.program.describe(way) for way, _ in phi.args)
            return ", ".join(f"{way}: {name}" for way, (_, name) in zip(ways, phi.args, strict=True))

        return _aligned([(str(phi.result), f"phi {args(phi)}") for phi in ssa.phis])

    def _ways_out(self, basic: BasicBlock) -> list[str]:
        ways = self._names(basic.successors)
        for exit_ in basic.exits:
            target = f" to {exit_.target:#x}" if exit_.target is not None else ""
            ways.append(f"({exit_.kind}{target})" if exit_.kind == LEAVES else f"({exit_.kind})")
        back = f"; back at {self.program.describe(basic.resumes)}" if basic.resumes is not None else ""
        return [f"to {', '.join(ways)}{back}"]

    def _names(self, addresses: Iterable[int]) -> list[str]:
        return [self.program.describe(a) for a in addresses]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the operations of one instruction, given how to show each value that is used."""

    shown: Mapping[Value, str]
    describe: Callable[[int], str]

    def line(self, step: Step) -> tuple[str, str]:
        """What is defined, and by what."""
        operation = step.operation
        if operation.opcode == "put":
            name = str(step.defines[0]) if step.defines else str(operation.attr)
            skipped = f" unless skipped, else {step.uses[0]}" if step.uses else ""
            return name, self.value(operation.args[0]) + skipped
        left = ", ".join(str(name) for name in step.defines)
        if operation.result is not None:
            left = f"{operation.result}:{operation.result.width}"
        return left, self.call(operation, _state(step))

    def value(self, value: Value) -> str:
        return self.shown[value]

    def call(self, operation: Operation, state: str = "") -> str:
        attr, args = operation.attr, [self.value(a) for a in operation.args]
        words = [operation.opcode, state, *args, *_attribute(attr)]
        if operation.opcode in ("load", "store"):
            segment = attr.segment if isinstance(attr, Access) else None
            address = f"[{segment + ':' if segment else ''}{args[0]}]"
            size = [f"{operation.args[1].width}-bit"] if operation.opcode == "store" else []
            words = [operation.opcode, state, address, *args[1:], *size]
        elif operation.opcode == "fault_if":
            words = ["fault", f"#{attr}", "if", args[0], "error", args[1]]
        elif operation.opcode in ("jump", "branch") and isinstance(attr, int):
            words = [operation.opcode, *args, "to", self.describe(attr)]
        return " ".join(filter(None, words))


def _attribute(attr: object) -> Sequence[str]:
    if isinstance(attr, tuple):
        return (f"{attr[0]}..{attr[1]}",)
    return () if attr is None or isinstance(attr, Access) else (str(attr),)


def _state(step: Step) -> str:
    """The version of memory or of the MSRs that an operation works on."""
    return str(step.uses[0]) if step.uses and step.operation.opcode != "get" else ""


def _operations(block: Block, steps: Sequence[Step], describe: Callable[[int], str]) -> list[str]:
    writer = _Writer(_shown_values(steps), describe)
    pairs = [writer.line(step) for step in steps if step.operation.opcode not in ("const", "get")]
    if block.terminator.opcode != "next":
        pairs.append(("", writer.call(block.terminator)))
    return _aligned(pairs)


def _shown_values(steps: Sequence[Step]) -> dict[Value, str]:
    shown = {}
    for step in steps:
        operation, result = step.operation, step.operation.result
        if result is None:
            continue
        shown[result] = str(result)
        if operation.opcode == "const" and isinstance(operation.attr, int):
            shown[result] = _constant(operation.attr, result.width)
        elif operation.opcode == "get":
            shown[result] = str(step.uses[0]) if step.uses else uses(operation)[0]
    return shown


def _constant(value: int, width: int) -> str:
    """Hexadecimal, its width where it is not the usual 64 bits; small negative 64-bit numbers with a sign."""
    if width != 64:
        return f"{value:#x}:{width}"
    return f"-{(1 << 64) - value:#x}" if value >= (1 << 64) - 0x1000 else f"{value:#x}"


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


def _remarked(text: str, remark: str) -> str:
    return f"{text:{_REMARK}}  ; {remark}"


def _printable(text: str) -> str:
    """Text from a file as one line that cannot steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
