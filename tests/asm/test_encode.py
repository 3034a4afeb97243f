"""Every form of the encoder against GNU as (bytes) and a decoder (mnemonic, operands, values)."""

from __future__ import annotations

from functools import cache

import iced_x86
import pytest
from encode_lines import Line, assemble, read_line, run_as

from verifier.asm.encode import EncodeError, Form, RawImm, RawReg, mnemonics
from verifier.asm.encode.kinds import KINDS, Kind
from verifier.asm.encode.rows import CANDIDATES, Candidate
from verifier.asm.program import SEGMENT_REGISTERS, Imm, Mem, Operand, Reg, Target

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
def _all_lines() -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for name in sorted(mnemonics()):
        for candidate in CANDIDATES[name]:
            for size in (candidate.size,) if candidate.size else candidate.row.sizes or (0,):
                lines = dict.fromkeys(_lines_of(name, candidate, size))
                found.setdefault(candidate.row.mnemonic, {}).update(lines)
    return {mnemonic: list(lines) for mnemonic, lines in found.items()}


@cache
def _assembled() -> tuple[dict[str, tuple[bytes, int]], dict[str, int]]:
    """Each line that GNU as takes, with its bytes and offset."""
    lines = [line for lines in _all_lines().values() for line in lines]
    assembled, labels = assemble(lines)
    return {lines[n]: found for n, found in assembled.items()}, labels


def _encoded(line: Line, offset: int, length: int, labels: dict[str, int]) -> tuple[Form, bytes]:
    form = line.match()
    size = length if length in form.sizes else form.sizes[-1]
    return form, form.encode(line.resolved(offset, size, labels), offset, size)


@pytest.mark.parametrize("mnemonic", sorted(_all_lines()))
def test_bytes_are_those_of_gnu_as(mnemonic: str) -> None:
    assembled, labels = _assembled()
    for text in _all_lines()[mnemonic]:
        line = read_line(text)
        if text in assembled and not _stricter(line):
            code, offset = assembled[text]
            assert _encoded(line, offset, len(code), labels)[1] == code, text
        else:
            with pytest.raises(EncodeError):
                pytest.fail(f"{text}: {_encoded(line, 0x10000, 0, labels)[1].hex()}")


def _stricter(line: Line) -> bool:
    """Refused though GNU as takes it: a load of CS (always #UD), an immediate whose size is only assumed."""
    if line.mnemonic.startswith("mov") and line.text.endswith("%cs"):
        return True
    unsized = CANDIDATES[line.mnemonic][0].size is None and not any(
        isinstance(raw, RawReg) for raw in line.operands
    )
    values = [raw.value or 0 for raw in line.operands if isinstance(raw, RawImm)]
    return unsized and any(1 << 31 <= value < 1 << 32 for value in values)


@pytest.mark.parametrize("mnemonic", sorted(_all_lines()))
def test_operands_are_those_of_a_decoder(mnemonic: str) -> None:
    assembled, labels = _assembled()
    for text in _all_lines()[mnemonic]:
        line = read_line(text)
        if text not in assembled or _stricter(line):
            continue
        code, offset = assembled[text]
        form = line.match()
        decoded = iced_x86.Decoder(64, code, ip=offset).decode()
        assert decoded.len == len(code), text
        operands = form.operands(line.resolved(offset, len(code), labels))
        assert DECODER_NAMES[decoded.mnemonic] == _decoder_name(form, operands), text
        if form.mnemonic not in (*STRINGS, "xlat", "nop"):
            _compare(form, operands, decoded, text)


DECODER_NAMES = {
    number: name.lower() for name, number in vars(iced_x86.Mnemonic).items() if type(number) is int
}
FORMATTER = iced_x86.Formatter(iced_x86.FormatterSyntax.NASM)
IMMEDIATE_WIDTHS = {
    iced_x86.OpKind.IMMEDIATE8: 8,
    iced_x86.OpKind.IMMEDIATE8_2ND: 8,
    iced_x86.OpKind.IMMEDIATE16: 16,
    iced_x86.OpKind.IMMEDIATE32: 32,
    iced_x86.OpKind.IMMEDIATE64: 64,
    iced_x86.OpKind.IMMEDIATE8TO16: 16,
    iced_x86.OpKind.IMMEDIATE8TO32: 32,
    iced_x86.OpKind.IMMEDIATE8TO64: 64,
    iced_x86.OpKind.IMMEDIATE32TO64: 64,
}
#: These use 16 bits of a register or, prefetches, nothing of memory; the decoder tells the form's width.
NARROW = ("lar", "lsl", "lldt", "ltr", "lmsw", "verr", "verw", "prefetch", "prefetchw", "prefetchnta",
          "prefetcht0", "prefetcht1", "prefetcht2")  # fmt: skip
STRINGS = ("movs", "cmps", "stos", "lods", "scas", "ins", "outs")
#: The decoder spells the operand size of these in the name.
SIZED_NAMES = {
    ("iret", 32): "iretd",
    ("iret", 64): "iretq",
    ("pushf", 64): "pushfq",
    ("popf", 64): "popfq",
    ("sysret", 64): "sysretq",
    ("sysexit", 64): "sysexitq",
    ("xlat", 8): "xlatb",
    **{
        (name, width): name + letter
        for name in STRINGS
        for width, letter in {8: "b", 16: "w", 32: "d", 64: "q"}.items()
    },
}
OTHER_NAMES = {"lret": "retf", "ljmp": "jmp", "lcall": "call"}


def _decoder_name(form: Form, operands: tuple[Operand, ...]) -> str:
    if form.condition:
        return form.mnemonic.removesuffix("cc") + form.condition
    if form.mnemonic == "movsx" and not isinstance(operands[0], Imm | Target) and operands[0].width == 32:
        return "movsxd"
    return SIZED_NAMES.get((form.mnemonic, form.width), OTHER_NAMES.get(form.mnemonic, form.mnemonic))


def _compare(form: Form, operands: tuple[Operand, ...], decoded: iced_x86.Instruction, text: str) -> None:
    theirs = [_decoded_operand(decoded, i) for i in range(decoded.op_count)]
    ours = [_comparable(operand) for operand in operands]
    if form.mnemonic != "enter":
        theirs.reverse()
    if form.mnemonic in ("xchg", "test"):
        theirs.sort()
        ours.sort()
    if form.mnemonic in NARROW or "segment" in {item[0] for item in ours}:
        theirs, ours = [item[:2] for item in theirs], [item[:2] for item in ours]
    assert ours == theirs, text


def _comparable(operand: Operand) -> tuple[object, ...]:
    """Kind, value, width: all that `_decoded_operand` tells."""
    match operand:
        case Reg(name, width, high):
            return ("segment" if name in SEGMENT_REGISTERS else "register", name, width, high)
        case Imm(value, width):
            return ("immediate", value, width)
        case Mem():
            where = (operand.base, operand.index, operand.scale, operand.disp % (1 << 64), operand.segment)
            return ("memory", str((*where, operand.rip_relative, operand.address_width)), operand.width)
        case Target(address):
            return ("target", address)


def _decoded_operand(decoded: iced_x86.Instruction, i: int) -> tuple[object, ...]:
    kind = decoded.op_kind(i)
    if kind == iced_x86.OpKind.REGISTER:
        register = decoded.op_register(i)
        return _decoded_register(register)
    if kind in IMMEDIATE_WIDTHS:
        width = IMMEDIATE_WIDTHS[kind]
        return ("immediate", decoded.immediate(i) % (1 << width), width)
    if kind == iced_x86.OpKind.MEMORY:
        return _decoded_memory(decoded)
    assert kind == iced_x86.OpKind.NEAR_BRANCH64
    return ("target", decoded.near_branch_target)


def _name(register: int) -> str | None:
    return FORMATTER.format_register(register) if register != iced_x86.Register.NONE else None


def _decoded_register(register: int) -> tuple[object, ...]:
    name = _name(register) or ""
    if iced_x86.RegisterExt.is_segment_register(register):
        return ("segment", name, 16, False)
    full = _name(iced_x86.RegisterExt.full_register(register)) or ""
    return ("register", full, 8 * iced_x86.RegisterExt.size(register), name in ("ah", "bh", "ch", "dh"))


def _decoded_memory(decoded: iced_x86.Instruction) -> tuple[object, ...]:
    rip = decoded.is_ip_rel_memory_operand
    parts = [
        part
        for part in (decoded.memory_base, decoded.memory_index)
        if part != iced_x86.Register.NONE and not rip
    ]
    width = min((8 * iced_x86.RegisterExt.size(part) for part in parts), default=64)
    base, index = (
        None
        if register == iced_x86.Register.NONE or rip
        else _name(iced_x86.RegisterExt.full_register(register))
        for register in (decoded.memory_base, decoded.memory_index)
    )
    disp = decoded.ip_rel_memory_address if rip else decoded.memory_displacement
    if width == 32 and disp >> 31:
        disp += (1 << 64) - (1 << 32)
    segment = _name(decoded.segment_prefix)
    where = (
        base,
        index,
        decoded.memory_index_scale,
        disp,
        segment if segment in ("fs", "gs") else None,
        rip,
        width,
    )
    return ("memory", str(where), 8 * iced_x86.MemorySizeExt.size(decoded.memory_size))


RELAXABLE = ("jmp", "je", "jnz", "jle", "js")


@pytest.mark.parametrize("mnemonic", RELAXABLE)
@pytest.mark.parametrize("padding", [0, 100, 125, 126, 127, 128, 129, 1000])
def test_short_and_near_branches(mnemonic: str, padding: int) -> None:
    lines = [f"{mnemonic} end", *["nop"] * padding, f"{mnemonic} start"]
    _, pieces, labels = run_as(lines)
    for text, code, offset in (
        (lines[0], pieces[0], 0),
        (lines[-1], pieces[-1], labels["end"] - len(pieces[-1])),
    ):
        line = read_line(text)
        form = line.match()
        assert form.sizes == ((2, 5) if mnemonic == "jmp" else (2, 6))
        assert form.encode(line.resolved(offset, len(code), labels), offset, len(code)) == code


PREFIXED = (
    "rep ret", "repz retq", "rep nop", "repe nop", "bnd jmp start", "bnd ret", "bnd call start",
    "notrack jmp *%rax", "notrack call *(%rax)", "cs nopw 0(%rax,%rax,1)", "data16 nop", "ds nop",
    "gs nop", "lock xchg (%rax), %eax", "lock xchgb %al, (%rax)", "lock cmpxchg16b %gs:(%rax)",
    "lock cmpxchg8b 8(%r15)", "repe cmpsb", "repz scasw", "repnz scasb", "rep movsw", "rep stosq",
    "lock addw $1, %gs:8(%r9d)", "lock btsl $3, (%rdi)", "lock decq 8(%rax)", "nopw %cs:0(%rax,%rax,1)",
    "data16 cs nop", "cs data16 nop", "data16 nopl %cs:(%eax)",
    "bnd notrack jmp *%rax", "bnd jmp *%gs:(%rax)",
    "lock incw %gs:(%eax)",
)  # fmt: skip


def test_prefixes_are_those_of_gnu_as() -> None:
    errors, pieces, labels = run_as(list(PREFIXED))
    assert not errors
    offset = 0
    for text, code in zip(PREFIXED, pieces, strict=True):
        assert _encoded(read_line(text), offset, len(code), labels)[1] == code, text
        offset += len(code)


@pytest.mark.parametrize(
    ("text", "mnemonic", "prefixes"),
    [
        ("rep movsq", "movs", ("rep",)),
        ("repz cmpsb", "cmps", ("rep",)),
        ("repnz scasb", "scas", ("repne",)),
        ("lock decl (%rax)", "dec", ("lock",)),
        ("rep ret", "ret", ()),
        ("rep nop", "pause", ()),
        ("notrack jmp *%rax", "jmp", ()),
        ("movabs $1, %rax", "mov", ()),
        ("xchg %rax, %rax", "nop", ()),
        ("xchg %eax, %eax", "xchg", ()),
        ("sal $1, %eax", "shl", ()),
        ("int $3", "int3", ()),
        ("cqto", "cqo", ()),
    ],
)
def test_canonical_names(text: str, mnemonic: str, prefixes: tuple[str, ...]) -> None:
    form = read_line(text).match()
    assert (form.mnemonic, form.prefixes) == (mnemonic, prefixes)


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("iret", 32),
        ("lret", 32),
        ("sysret", 32),
        ("movs", 32),
        ("mov $1, (%rax)", 32),
        ("bt $9, 16(%rsp)", 32),
    ],
)
def test_an_assumed_size_is_told(text: str, width: int) -> None:
    form = read_line(text).match()
    assert form.width == width
    assert form.warning is not None
    assert f"{width} bits" in form.warning


@pytest.mark.parametrize("text", ["iretq", "push $1", "call start", "mov %cs, (%rax)", "ret", "sete (%rax)"])
def test_a_told_size_needs_no_warning(text: str) -> None:
    assert read_line(text).match().warning is None
