"""The table of `docs/instructions.md`: which forms of each mnemonic are compared with what, and from how many states.

    python tests/lift/lift_table.py                 # the rows anew, with the figures of the last full runs
    python tests/lift/lift_table.py --run           # 1,000 states per form on this CPU and on QEMU, then the table
    python tests/lift/lift_table.py --run add mov   # the same for some mnemonics only
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from lift_compare import compare
from lift_native import Native
from lift_qemu import Qemu
from lift_shapes import Form, forms
from lift_unicorn import Unicorn
from lift_worlds import CPU, QEMU, TRANSFERS, UNICORN, in_unicorn, is_refused, worlds

DOCUMENT = Path(__file__).parents[2] / "docs" / "instructions.md"
#: Groups of states that share a line and its addresses, and states in each.
FULL, UNICORN_FULL = (50, 20), (25, 2)
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
_HEAD = "| mnemonic | forms | compared with, states | differences |\n|---|---|---|---|\n"
_NOT_EXECUTED = "the machine refuses it"
_TRANSFER = "Bochs, QEMU: [machine-model.md](machine-model.md)"

#: What the comparison found, fixed since; and where an oracle leaves the manual.
FOUND = {
    "mov": "fixed: a write to CR0 kept ET and reserved bits as written, a write to DR6 the bits that are fixed",
}
DEVIATIONS = {
    "blsi": "Unicorn: CF inverted",
    "bextr": "Unicorn: a length beyond the operand",
    "bzhi": "Unicorn: an index beyond the operand",
    **dict.fromkeys(("rorx", "shld", "shrd"), "Unicorn: a RIP-relative address before an immediate"),
    "neg": "Unicorn: flags under LOCK",
    "cmpxchg": "Unicorn: RAX written although equal",
    "rdpmc": "QEMU has no counters: its fault only",
    "invpcid": "QEMU has it not: its fault at CPL 3 only",
    "wrmsr": "QEMU: no check that a base is canonical",
}


def mnemonics() -> list[str]:
    return sorted({form.mnemonic for form in forms()})


def shapes(mnemonic: str) -> str:
    """The forms of a mnemonic in short: widths, then the sorts of operands that go with them."""
    widths: dict[tuple[str, tuple[str, ...]], set[int]] = {}
    for form in _forms(mnemonic):
        widths.setdefault((form.prefix, form.sorts), set()).add(form.width)
    lines: dict[tuple[int, ...], list[str]] = {}
    for (prefix, sorts), found in sorted(widths.items()):
        shown = f"{prefix} {','.join(sorts)}".strip() or "alone"
        lines.setdefault(tuple(sorted(found)), []).append(shown)
    texts = []
    for found, shown in sorted(lines.items()):
        sizes = "/".join(str(width) for width in found if width)
        texts.append(f"{sizes}: {' · '.join(shown)}" if sizes else " · ".join(shown))
    conditions = len({form.condition for form in _forms(mnemonic)})
    return "; ".join(texts) + (f" ({conditions} conditions)" if conditions > 1 else "")


def _forms(mnemonic: str) -> list[Form]:
    return [form for form in forms() if form.mnemonic == mnemonic]


def expected(mnemonic: str) -> dict[str, int]:
    """The states of a full run, by oracle."""
    found: Counter[str] = Counter()
    for form in _forms(mnemonic):
        for world in worlds(form):
            found[world.name] += FULL[0] * FULL[1]
        if in_unicorn(form):
            found[UNICORN.name] += UNICORN_FULL[0] * UNICORN_FULL[1]
    return dict(found)


def row(mnemonic: str, states: dict[str, int]) -> str:
    """A line of the table; ``states`` are those that were run."""
    if mnemonic in TRANSFERS:
        compared = _NOT_EXECUTED if mnemonic in ("lret", "syscall") else _TRANSFER
    else:
        compared = ", ".join(f"{name} {states.get(name, 0):,}" for name in expected(mnemonic))
    notes = [FOUND.get(mnemonic), DEVIATIONS.get(mnemonic)]
    refused = sum(map(is_refused, _forms(mnemonic)))
    notes += [f"{refused} forms are refused"] if refused else []
    return f"| `{mnemonic}` | {shapes(mnemonic)} | {compared} | {'; '.join(filter(None, notes)) or 'none'} |\n"


def committed() -> dict[str, dict[str, int]]:
    """The states of the table as it stands, by mnemonic and oracle."""
    found = {}
    lines = re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    for mnemonic, compared in lines:
        figures = [part.rsplit(" ", 1) for part in compared.split(", ")] if mnemonic not in TRANSFERS else []
        found[mnemonic] = {name: int(number.replace(",", "")) for name, number in figures}
    return found


def table(states: dict[str, dict[str, int]]) -> str:
    return BEGIN + _HEAD + "".join(row(m, states.get(m, {})) for m in mnemonics()) + END


def rewrite(states: dict[str, dict[str, int]]) -> str:
    """The document with the table made anew."""
    text = DOCUMENT.read_text("utf-8")
    before, rest = text.split(BEGIN)
    return before + table(states) + rest.split(END)[1]


def run(chosen: list[str]) -> None:
    """Full runs of some mnemonics, each written down when it is over; ends the program where something differs."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        oracles = ((CPU, Native(place), FULL), (QEMU, Qemu(place), FULL), (UNICORN, Unicorn(), UNICORN_FULL))
        for mnemonic in chosen:
            states = {}
            for world, oracle, size in oracles:
                mine = [f for f in _forms(mnemonic) if (in_unicorn(f) if world is UNICORN else world in worlds(f))]
                report = compare(mine, world, oracle, *size)
                if report.wrong:
                    wrong = [f"{name}: {what}" for name, what in report.wrong.items()]
                    sys.exit("\n".join((*wrong[:20], f"{len(wrong)} differences")))
                states |= {world.name: sum(report.states.values())} if mine else {}
            DOCUMENT.write_text(rewrite(committed() | {mnemonic: states}), "utf-8")
            print(mnemonic, states, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="compare first, at full size")
    parser.add_argument("mnemonics", nargs="*", metavar="MNEMONIC")
    options = parser.parse_args()
    if options.run:
        run(options.mnemonics or mnemonics())
    DOCUMENT.write_text(rewrite(committed()), "utf-8")


if __name__ == "__main__":
    main()
