"""Lines for every form of the encoder: each operand of each row in many shapes, and shapes together."""

from __future__ import annotations

from functools import cache

from verifier.asm.encode import mnemonics
from verifier.asm.encode.kinds import KINDS, Kind
from verifier.asm.encode.rows import CANDIDATES, Candidate

REGISTERS = {
    8: ("%al", "%bl", "%r9b", "%sil", "%spl", "%ah", "%bh"),
    16: ("%ax", "%bx", "%sp", "%r10w"),
    32: ("%eax", "%ebx", "%ebp", "%r12d"),
    64: ("%rax", "%rbx", "%rsp", "%r13", "%r15"),
}
MEMORY = (
    "(%rax)", "(%rbp)", "(%rsp)", "(%r12)", "(%r13)", "0(%rsp)", "0(%r13)", "127(%rbx)", "128(%rbx)",
    "-128(%rsp)", "-129(%r8)", "88(%rsp)", "-2147483648(%rdi)", "2147483647(%r11)", "(%rax,%rbx)",
    "(%rbp,%rax,2)", "8(%r13,%r14,4)", "(%rsp,%r12,8)", "(,%rcx,8)", "16(,%r9,1)", "0x1234", "-8",
    "0xffffffff81000000", "%gs:0x28", "%fs:0", "%gs:(%rax)", "%gs:8(%r12,%rax,2)", "%gs:forward",
    "%gs:end(%rip)", "%ss:(%rax)", "%ss:(%rbp)", "%ds:(%rax)", "%ds:(%rbp)", "%cs:(%rsp)", "%es:0x10",
    "%ds:0x10", "end(%rip)", "start(%rip)", "5(%rip)", "(%rip)", "forward(%rax)", "forward_small(%rax)",
    "forward", "forward(,%rax,4)", "(%eax)", "8(%r13d)", "%gs:-4(%esp)", "(%ebx,%r9d,2)",
    "0xffffffff(%eax)", "0xfffffffffffffff8(%rax)",
)  # fmt: skip
FEW_MEMORY = ("(%rax)", "-8(%r13,%r14,4)", "%gs:forward", "end(%rip)")
IMMEDIATES = {
    8: (0, 1, 3, 127, -128, 128, 255, -1, -129, -256),
    16: (0, 127, 128, -128, -129, 0x7FFF, 0x8000, 0xFF80, 0xFFFF, -0x8000, -0xFFFF, 0x1234),
    32: (0, 127, 128, -128, -129, 0x7FFFFFFF, 0x80000000, 0xFFFFFF80, 0xFFFFFFFF, -0x80000000, -0x80000001,
         -0xFFFFFFFF),
    64: (0, 127, 128, -128, -129, 0x7FFFFFFF, 0x80000000, -0x80000000, 0xFFFFFFFF, 0xFFFFFFFFFFFFFF80,
         -0x80000001, 0x7FFFFFFFFFFFFFFF, 0xFFFFFFFF80000000),
}  # fmt: skip
BYTES = (0, 1, 3, 63, 127, 128, 255, -1, -128)
WORDS = (0, 8, 255, 0x8000, 0xFFFF, -1)
FILES = {
    "segment": ("%es", "%cs", "%ss", "%ds", "%fs", "%gs"),
    "control": ("%cr0", "%cr2", "%cr3", "%cr4", "%cr8"),
    "debug": ("%dr0", "%dr6", "%db7"),
}
#: The kinds that take one register only, by its name.
ONLY = {kind: name[1:] for name, kind in KINDS.items() if name[0] == "="}


def _immediates(kind: Kind, size: int) -> list[str]:
    if kind.constant is not None:
        return [f"${kind.constant}"]
    values = (BYTES if kind.field == 8 else WORDS) if kind.strict else IMMEDIATES[size]
    symbols = [] if kind.field == 8 and not kind.strict else ["$forward_small"]
    return [f"${value}" for value in values] + symbols


def _registers(kind: Kind, size: int) -> list[str]:
    if kind.file != "general":
        return [f"%{kind.only}"] if kind.only else list(FILES.get(kind.file or "", ()))
    widths = [size if width < 0 else width for width in kind.widths]
    names = [name for width in widths for name in REGISTERS.get(width, ())]
    if kind.only and kind.only != "rax":
        return [f"%{ONLY[kind]}"]
    return names[:1] if kind.only else names


def _samples(kind: Kind, size: int, few: bool) -> list[str]:
    if kind.place == "rel":
        return ["start", "end"]
    if kind.place == "moffs":
        return ["0x1122334455667788", "%gs:0x10", "forward", "-8"]
    if kind.pointer:
        segment = "%es" if kind.pointer == "rdi" else "%ds"
        return [f"(%{kind.pointer})", f"{segment}:(%{kind.pointer})"]
    if kind.place == "imm" or kind.constant is not None:
        return _immediates(kind, size)
    memory = list(FEW_MEMORY if few else MEMORY) if kind.memory else []
    return _registers(kind, size) + memory


def _lines_of(name: str, candidate: Candidate, size: int) -> list[str]:
    row = candidate.row
    star = "*" if row.has("star") else ""
    repeated = candidate.size is not None and any(kind.place == "reg" for kind in row.kinds)
    samples = [_samples(kind, size, row.condition is not None or repeated) for kind in row.kinds]
    samples = samples[1:] if row.has("one") else samples[:1] + samples[2:] if row.has("twice") else samples
    usual = [some[min(1, len(some) - 1)] for some in samples]
    lines = [f"{name} {star}{', '.join(usual)}".strip()]
    for i, some in enumerate(samples):
        lines += [f"{name} {star}{', '.join((*usual[:i], sample, *usual[i + 1 :]))}" for sample in some]
    lines += [f"{name} {star}{', '.join(row)}" for row in zip(*samples, strict=False)]
    if row.has("lock") and size:
        lines += [f"lock {line}" for line in lines if "(" in line][:4]
    if row.has("rep"):
        lines += [f"{prefix} {line}" for line in lines for prefix in ("rep", "repne")]
    return lines


@cache
def all_lines() -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for name in sorted(mnemonics()):
        for candidate in CANDIDATES[name]:
            for size in (candidate.size,) if candidate.size else candidate.row.sizes or (0,):
                lines = dict.fromkeys(_lines_of(name, candidate, size))
                found.setdefault(candidate.row.mnemonic, {}).update(lines)
    return {mnemonic: list(lines) for mnemonic, lines in found.items()}
