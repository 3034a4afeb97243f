"""AT&T text to `Instruction` by way of GNU as and iced-x86: neither was written here."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import iced_x86 as iced

from verifier.asm.program import CONDITIONS, Imm, Instruction, Mem, Operand, Reg, Target
from verifier.source import Span

#: Where every instruction is run, and the memory that its operands lie in.
CODE = 0x1000_0000
ARENA, ARENA_SIZE = 0x2000_0000, 0x800

_SLOT = 32


def _names(enum: object) -> dict[int, str]:
    return {v: k.lower() for k, v in vars(enum).items() if isinstance(v, int)}


_MNEMONICS = _names(iced.Mnemonic)
_REGISTERS = _names(iced.Register)
_RENAMED = {
    "movsxd": "movsx", "sal": "shl", "xlatb": "xlat", "iretq": "iret", "iretd": "iret", "pushfq": "pushf",
    "popfq": "popf", "retf": "lret", "sysretq": "sysret", "jecxz": "jrcxz",
}  # fmt: skip
_STRING_SIZES = {"b": 8, "w": 16, "d": 32, "q": 64}
_STRINGS = {
    f"{m}{s}": (m, width)
    for m in ("movs", "stos", "lods", "cmps", "scas")
    for s, width in _STRING_SIZES.items()
}
_OPERAND_KINDS = _names(iced.OpKind)


def gas(text: str) -> bytes:
    """The .text of GNU as."""
    with tempfile.TemporaryDirectory() as folder:
        source, linked, binary = (Path(folder, n) for n in ("a.s", "a.o", "a.bin"))
        source.write_text(text)
        subprocess.run(["as", "--64", "--no-warn", "-o", linked, source], check=True)
        subprocess.run(["objcopy", "-O", "binary", "-j", ".text", linked, binary], check=True)
        return binary.read_bytes()


@cache
def assemble(forms: tuple[str, ...]) -> dict[str, bytes]:
    """The bytes of every line, from one run of GNU as."""
    data = gas("".join(f".balign {_SLOT}\n{form}\n" for form in forms))
    result = {}
    for i, form in enumerate(forms):
        raw = data[_SLOT * i : _SLOT * (i + 1)]
        result[form] = raw[: next(iter(iced.Decoder(64, raw, ip=CODE))).len]
    return result


@cache
def decode(encoding: bytes, text: str) -> Instruction:
    """Our `Instruction` of what iced-x86 reads in the bytes."""
    i = next(iter(iced.Decoder(64, encoding, ip=CODE)))
    mnemonic, width = _STRINGS.get(_MNEMONICS[i.mnemonic], (_MNEMONICS[i.mnemonic], 0))
    condition = CONDITIONS[i.condition_code - 1] if i.condition_code else None
    if condition is not None and not mnemonic.startswith("loop"):
        mnemonic = {"j": "jcc", "s": "setcc", "c": "cmovcc"}[mnemonic[0]]
    operands = [_operand(i, n) for n in range(i.op_count)]
    if mnemonic != "enter":
        operands.reverse()
    if mnemonic in ("mul", "div", "idiv") or (mnemonic == "imul" and i.op_count == 1):
        operands = operands[-1:]
    prefixes = [("lock", i.has_lock_prefix)]
    if i.is_string_instruction:
        prefixes += [("rep", i.has_rep_prefix), ("repne", i.has_repne_prefix)]
    return Instruction(
        CODE,
        encoding,
        _RENAMED.get(mnemonic, mnemonic),
        tuple(operands),
        width or _width(i, mnemonic),
        text,
        Span("forms.S", 1, 1, len(text) + 1, text),
        condition,
        tuple(name for name, there in prefixes if there),
        i.is_jmp_near_indirect or i.is_call_near_indirect,
    )


def _operand(i: iced.Instruction, n: int) -> Operand:
    kind = i.op_kind(n)
    if kind == iced.OpKind.REGISTER:
        return register(i.op_register(n))
    if kind in (iced.OpKind.NEAR_BRANCH16, iced.OpKind.NEAR_BRANCH32, iced.OpKind.NEAR_BRANCH64):
        return Target(i.near_branch_target, "")
    if kind in _IMMEDIATES:
        width = _immediate_width(kind)
        return Imm(i.immediate(n) & ((1 << width) - 1), width)
    return _memory(i, kind)


_IMMEDIATES = {v for k, v in vars(iced.OpKind).items() if k.startswith("IMMEDIATE")}


def _immediate_width(kind: int) -> int:
    return int(_OPERAND_KINDS[kind].rsplit("to", 1)[-1].removeprefix("immediate").removesuffix("_2nd"))


def register(number: int) -> Reg:
    name = _REGISTERS[number]
    if name in ("ah", "ch", "dh", "bh"):
        return Reg(f"r{name[0]}x", 8, high=True)
    full = _REGISTERS[iced.RegisterExt.full_register(number)]
    return Reg(full, iced.RegisterExt.size(number) * 8)


_STRING_OPERANDS = {"rsi": ("rsi", 64), "esi": ("rsi", 32), "rdi": ("rdi", 64), "edi": ("rdi", 32)}


def _memory(i: iced.Instruction, kind: int) -> Mem:
    width = iced.MemorySizeExt.size(i.memory_size) * 8
    segment = _REGISTERS[i.segment_prefix] if i.segment_prefix else None
    if _OPERAND_KINDS[kind] != "memory":
        base, address_width = _STRING_OPERANDS[_OPERAND_KINDS[kind][-3:]]
        return Mem(base, None, 1, 0, width, segment if base == "rsi" else None, address_width=address_width)
    address_width = 64
    for part in (i.memory_base, i.memory_index):
        if part and iced.RegisterExt.size(part) == 4:
            address_width = 32
    base = index = None
    if i.memory_base and not i.is_ip_rel_memory_operand:
        base = register(i.memory_base).name
    if i.memory_index:
        index = register(i.memory_index).name
    disp = i.memory_displacement
    disp = disp - (1 << 64) if disp >> 63 else disp
    if address_width == 32 and disp >> 31:
        disp -= 1 << 32
    return Mem(
        base, index, i.memory_index_scale, disp, width, segment, i.is_ip_rel_memory_operand, address_width
    )


def _width(i: iced.Instruction, mnemonic: str) -> int:
    if mnemonic in ("push", "pop", "pushf", "pushfq", "popf", "popfq"):
        return abs(i.stack_pointer_increment) * 8
    if mnemonic in ("leave", "enter", "ret", "jmp", "call"):
        return 64
    if i.op_count == 0:
        return 0
    first = _operand(i, 0)
    if isinstance(first, Reg | Mem):
        return first.width
    return 0
