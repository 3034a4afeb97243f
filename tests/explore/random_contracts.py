"""Random handlers with code that is not shown: holes, a function, handlers, and all that their contracts can say."""

from __future__ import annotations

from random_handlers import OTHERS, REGISTERS, Writer

#: What is required, and code that makes sure of it: a test, and the condition on which control passes by.
GUARDED = (
    ("rax != 5", "cmpq $5,%rax", "e"),
    ("%gs:flag == 0", "cmpb $0,%gs:flag", "ne"),
    ("not (%gs:other & 1)", "testb $1,%gs:other", "ne"),
    ("rcx == rdx", "cmpq %rcx,%rdx", "ne"),
    ("rdx s< 1 -> %gs:word == 0", "cmpq $0,%gs:word", "ne"),
    ("df == 0", "cld", ""),
    ("if == 0", "cli", ""),
)
#: What holds, or does not, by what was done before.
STANDING = ("nmi_blocked == 1", "cpl == 0", "rsp < nmi_ist.top - 30", "nmi_blocked == 0", "rflags & 0x200 == 0")
VALUES = ("rcx + 1", "rax", "rcx", "%gs:word", "rdx & 1", "zf", "0(%rsp)", "rax == rcx", "al", "nmi_ist.top - 40")


class ContractWriter(Writer):
    """A handler whose gadgets call a function, and whose events may have handlers that are not shown."""

    _known: str | None = None

    def touches(self) -> tuple[str, ...]:
        return (*super().touches(), *["call helper\n"] * 4) if "helper" in self.calls else super().touches()

    def hole(self) -> None:
        if not self.holes:
            guard = self._guard()
            self.holes["hole"] = self._contract("hole", guard)
            self.places.append("hole")
            self.emit("hole:", "...", *([f"{guard[0]}:"] if guard else []))
            if self.chance(0.5):
                self.matter()

    def call(self) -> None:
        """A function is called; the first call says what it is like."""
        if not self.calls:
            self.emit(*(["cld"] if self.chance(0.9) else []))
            guard = self._guard()
            self._known = guard and guard[1]
            self.calls["helper"] = self._contract("function", guard)
            self.places.append("helper")
        else:
            guard = self._guard(self._known) if self._known and self.chance(0.8) else None
        self.emit(self.pick("call helper", "call helper", "leaq helper(%rip),%rax\ncall *%rax"))
        self.emit(*([f"{guard[0]}:"] if guard else []))
        if self.chance(0.5):
            self.matter()

    def gadget(self) -> None:
        if self.chance(0.4):
            self.call()
        else:
            super().gadget()

    def leave(self) -> None:
        if not self.calls:
            self.call()
        for event in ("irq", "page_fault", "machine_check"):
            if event in self.events and self.chance(0.5):
                self.hidden[event] = f"contract: {{{self._contract('handler', None)}}}, gate: interrupt"
        super().leave()

    def _guard(self, known: str | None = None) -> tuple[str, str] | None:
        """Sometimes a test of what is then required: where to go if it fails, and what is. ``known``: that."""
        if known is None and not self.chance(0.3):
            return None
        wanted, test, condition = self.random.choice([g for g in GUARDED if known in (None, g[0])])
        over = self.label()
        self.emit(test, *([f"j{condition} {over}"] if condition else []))
        return over, wanted

    def _contract(self, kind: str, guard: tuple[str, str] | None) -> str:
        kept = [r for r in REGISTERS if self.chance(0.5)]
        free = [r for r in REGISTERS if r not in kept]
        given = {r: self.pick(*VALUES) for r in (*free, "zf", "df") if self.chance(0.2)}
        may = ["page_fault"] if "page_fault" in self.events and kind != "handler" else []
        # what it schedules with NMIs blocked is a broken contract, as is mostly the case
        for power, p in (("change_if", 0.3), ("iret", 0.3), ("not_return", 0.15), ("schedule", 0.05)):
            may += [power] if self.chance(p) else []
        required = [guard[1]] if guard else [self.pick(*STANDING)] if self.chance(0.1) else []
        saved = [r for r in free if r not in given and self.chance(0.4)]
        more = [
            f"may: [{', '.join(may)}], keeps: [{', '.join([*OTHERS, *kept])}], stack: {self.pick('0', '8', '16')}",
            f"saves: [{', '.join(saved)}]",
            f"requires: [{', '.join(repr(r) for r in required)}]",
            f"gives: {{{', '.join(f'{cell}: {value!r}' for cell, value in given.items())}}}",
            self.pick("", "", "writes: [other]", "writes: ['%gs:word']", "writes: [{at: 'byte %gs:flag', size: 1}]"),
            self.pick(*["", "", "", "", "", ""], "returns: never"),
            self.pick(*["", "", ""], "never: [nmi]", "never: [irq]"),
            self.pick("", "abi: none") if kind == "function" else "",
        ]
        return ", ".join(line for line in more if line)
