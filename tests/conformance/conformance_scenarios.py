"""What is tried on the machines, rule by rule. Everything that a scenario leads to is the interpreter's own answer."""

from __future__ import annotations

from conformance_lab import (
    BAD,
    EDGE,
    HERE,
    HOME,
    IST,
    LOW,
    MIDDLE,
    NOWHERE,
    SIZE,
    STACK,
    USER_RSP,
    Scenario,
    Way,
    flags,
)

from verifier.ir.cells import RFLAGS_LAYOUT

#: A frame that goes home, and one that goes on in the program, on the stack.
HOMEWARDS = (HOME, 0x33, flags(if_=1, cf=1), USER_RSP + 8, 0x2B)
ONWARDS = ("target", 0x10, flags(), MIDDLE - 64, 0x18)
#: One that no IRET takes: its CS is null.
POISONED = (HOME, 0, flags(), USER_RSP, 0x2B)
ALL_FLAGS = flags(**dict.fromkeys(RFLAGS_LAYOUT, 1)) | flags(iopl=3)
COMMON = {"cf": 1, "pf": 1, "af": 1, "zf": 1, "sf": 1, "df": 1, "of": 1, "iopl": 3, "ac": 1, "id": 1}
HELD_TRAP = {"tf": 1, "rax": 0x18}
EITHER = (0, 1)
FAULTS_ON_IST = ("stack_fault", "general_protection", "double_fault")


def ways(*moves: str, **rules: int) -> tuple[Way, ...]:
    return (Way(moves, rules),)


IN_SHADOW = Way(("execute", "nmi"), label="NMI in the shadow")
AFTER_SHADOW = Way(("execute", "execute+nmi", "nmi"), label="NMI after it")


def bits(name: str, *moves: str) -> tuple[Way, ...]:
    """The same moves with a bit of the processor 0, and 1."""
    return tuple(Way(moves or ("execute",), {name: value}) for value in EITHER)


NMIS = [
    Scenario("nmi, IF=0", "N1 N2 F7", ways=ways("nmi"), ist=("nmi",)),
    Scenario("nmi, IF=1, gate of DPL 0 from CPL 3", "N1 F2 F4", ways=ways("nmi"), at="home", cells={"if_": 1}),
    Scenario("two NMIs while blocked", "N3 N7", "iretq",
             ways("latch", "latch", "execute", "nmi", "execute", "execute", "execute"),
             ist=("nmi",), words=ONWARDS, blocked=True),
    Scenario("faulting iretq", "N4 R7", "iretq", words=POISONED, blocked=True),
    Scenario("NMI pending at a faulting iretq", "N4 N7", "iretq", ways("latch", "execute", "nmi"), ist=("nmi",),
             words=POISONED, blocked=True, on=("bochs",), why="its block is not over: see N4"),
    *(Scenario(f"{text}, blocked", "N5", text, words=words, cells={"rcx": HOME, "r11": flags()}, blocked=True)
      for text, words in (("ret", ("target",)), ("popfq", (flags(if_=1),)), ("sti", ()), ("jmp target", ()),
                          ("sysretq", ()))),
    Scenario("iretq of a fault's handler", "N6 N13", "mov (%rax), %rcx", ways("execute", "execute", "execute", "nmi"),
             ist=("nmi",), cells={"rax": BAD}, blocked=True),
    Scenario("iretq to CPL 3, blocked", "N6", "iretq", words=HOMEWARDS, blocked=True),
    Scenario("int $2", "N9", "int $2"),
    Scenario("hlt, then an NMI", "N10", "hlt", ways("execute", "nmi"), on=("bochs",),
             why="a step of its debugger does not end at HLT"),
    Scenario("NMI between iterations", "N11 F14", "rep movsb", ways("execute", "nmi", "execute", "execute", "execute"),
             cells={"rcx": 3, "rsi": STACK, "rdi": STACK + 8}, words=()),
    Scenario("rep movsb of no iteration", "N11", "rep movsb", cells={"rcx": 0, "rsi": STACK, "rdi": STACK + 8}),
    Scenario("machine check while blocked", "N12 I10", ways=ways("machine_check"), blocked=True, on=("qemu",),
             why="it has none: the driver makes one out of an NMI"),
    Scenario("machine check at home", "I10", ways=ways("machine_check"), at="home", on=("qemu",),
             why="it has none: the driver makes one out of an NMI"),
    Scenario("fault while blocked", "N12", "mov (%rax), %rcx", cells={"rax": BAD}, blocked=True),
]  # fmt: skip

SHADOWS = [
    Scenario("irq in the shadow of sti", "S1", "sti", ways("execute", "execute+irq", "irq")),
    Scenario("sti with IF=1", "S1", "sti", ways("execute", "irq"), cells={"if_": 1}),
    Scenario("NMI after sti", "S2", "sti", (IN_SHADOW, AFTER_SHADOW)),
    Scenario("irq after mov %ss", "S3", "mov %ax, %ss", ways("execute", "execute+irq", "irq"),
             cells={"rax": 0x18, "if_": 1}),
    Scenario("NMI after mov %ss", "S3", "mov %ax, %ss", (IN_SHADOW, AFTER_SHADOW), cells={"rax": 0x18}),
    Scenario("TF and mov %ss", "S3", "mov %ax, %ss", ways("execute", "execute"), cells=HELD_TRAP),
    *(Scenario(f"{first}, then {second}", "S4", f"{first}\n {second}",
               (Way(("execute", "execute", "execute+irq", "irq"), {name: 0}),
                Way(("execute", "execute", "irq"), {name: 1})), cells={"rax": 0x18, "if_": if_})
      for name, first, second, if_ in (
          ("ss_after_ss_casts_none", "mov %ax, %ss", "mov %ax, %ss", 1),
          ("ss_after_sti_casts_none", "sti", "mov %ax, %ss", 0),
          ("sti_after_ss_casts_none", "mov %ax, %ss", "sti", 0))),
    Scenario("mov %ss three times", "S4", 3 * "mov %ax, %ss\n ",
             tuple(Way((*3 * ("execute",), *moves), {"ss_after_ss_casts_none": 1, "rows_cast_once": bit})
                   for bit, moves in ((0, ("execute+irq", "irq")), (1, ("irq",)))), cells={"rax": 0x18, "if_": 1}),
    Scenario("TF, mov %ss twice", "S6", "mov %ax, %ss\n mov %ax, %ss",
             bits("ss_after_ss_traps", "execute", "execute", "execute"), cells=HELD_TRAP),
    Scenario("popfq that sets IF", "S5", "popfq", ways("execute", "irq"), words=(flags(if_=1),)),
    Scenario("iretq that sets IF", "S5", "iretq", ways("execute", "irq"),
             words=("target", 0x10, flags(if_=1), MIDDLE, 0x18)),
    Scenario("TF, mov %ss, int3", "S6", "mov %ax, %ss\n int3", bits("int_keeps_held_trap", "execute", "execute"),
             cells=HELD_TRAP),
    Scenario("TF, mov %ss, a fault", "S7", "mov %ax, %ss\n mov (%rbx), %rcx",
             bits("fault_keeps_held_trap", "execute", "execute"),
             cells=HELD_TRAP | {"rbx": BAD}),
    Scenario("TF, mov %ss, an NMI", "S7", "mov %ax, %ss", (
        *bits("event_keeps_held_trap", "execute", "nmi"), AFTER_SHADOW), cells=HELD_TRAP),
]  # fmt: skip

PRIORITIES = [
    Scenario("irq held by IF", "P1", "nop\n sti\n nop", ways("execute+irq", "execute", "execute", "irq")),
    Scenario("single step and pending NMI", "P2", "iretq", ways("latch", "execute", "nmi"), ist=("nmi",),
             cells={"tf": 1},
             words=ONWARDS, blocked=True),
    Scenario("NMI and irq, interrupt gate", "P3", "nop", ways("nmi+irq", "execute", "execute", "irq"),
             cells={"if_": 1}),
    Scenario("NMI and irq, trap gate", "P3", "nop", ways("nmi+irq", "irq"), cells={"if_": 1}, trap=("nmi",)),
    Scenario("NMI at an rip without a page", "P4", ways=ways("nmi"), at="home", home=NOWHERE),
]  # fmt: skip

DELIVERIES = [
    Scenario("IST stack in use", "F4", ways=ways("nmi"), ist=("nmi",), rsp=IST + SIZE - 64),
    Scenario("IST stack from CPL 3", "F4 F10", ways=ways("nmi"), ist=("nmi",), at="home"),
    Scenario("RSP0 from CPL 3", "F4 F10", ways=ways("irq"), at="home", cells={"if_": 1}),
    Scenario("stack in use from CPL 0", "F4", ways=ways("irq"), cells={"if_": 1}),
    Scenario("RSP just above the lower half", "F5", ways=bits("frame_below_the_edge", "irq"), cells={"if_": 1},
             ist=FAULTS_ON_IST, rsp=BAD),
    Scenario("RSP is not canonical", "F5 F9 H2", ways=ways("irq"), ist=FAULTS_ON_IST, rsp=BAD + 256, cells={"if_": 1}),
    *(Scenario(f"RSP is {skew} off", "F6 F7", ways=ways("nmi"), rsp=MIDDLE + skew) for skew in (1, 8, 15)),
    *(Scenario(text, f"F7 F8 F13 {rules}", text, cells={"rax": BAD}, ist=("divide_error",)) for text, rules in (
        ("ud2", "F14"), ("int3", ""), ("mov (%rax), %rcx", "F14 A2"), ("int $0x80", ""), ("int $13", "F8"))),
    Scenario("int n to a stack that is not canonical", "F9 F13", "int $0x80", ist=FAULTS_ON_IST, rsp=BAD + 256),
    Scenario("IST without a change of CPL", "F10", ways=bits("ist_nulls_ss", "nmi"), ist=("nmi",)),
    *(Scenario(f"flags and a {kind} gate", "F11 F12", "int $0x80", trap=("system",) if kind == "trap" else (),
               cells=COMMON | {"if_": 1, "nt": 1}) for kind in ("trap", "interrupt")),
    Scenario("RF and an event", "F11 F14", ways=ways("nmi"), cells={"rf": 1}),
    Scenario("RF after an instruction", "F14", "nop", ways("execute", "nmi"), cells={"rf": 1}),
    Scenario("a frame over the edge of the canonical half", "F15", ways=ways("irq"), ist=FAULTS_ON_IST,
             rsp=EDGE + 0x18, cells={"if_": 1}, choices=(("frame.written", 1), ("frame.written", 1))),
    Scenario("what delivery leaves alone", "F17", ways=ways("nmi"), at="home",
             cells={"df": 1, "ds": 0x2B, "fs": 0x2B, "gs": 3, "fs_base": 5, "gs_base": 7, "kernel_gs_base": 9}),
]  # fmt: skip

RETURNS = [
    Scenario("iretq with NT", "R2", "iretq", words=HOMEWARDS, cells={"nt": 1}),
    Scenario("iretq to CPL 3", "R3", "iretq", words=HOMEWARDS),
    Scenario("iretq to CPL 0", "R3", "iretq", words=ONWARDS),
    *(Scenario(f"iretq, cs {cs:#x}, ss {ss:#x}", rules, "iretq", words=(HOME, cs, flags(), USER_RSP, ss)) for rules,
             cs, ss in (
        ("R4", 0, 0x2B), ("R4", 3, 0x2B), ("R4", 0x1003, 0x2B), ("R4", 0x2B, 0x2B), ("R4", 0x13, 0x2B),
        ("R4", 0x30, 0x2B), ("R4 R8", 0x37, 0x2B), ("R5", 0x33, 0), ("R5", 0x33, 3), ("R5 R8", 0x33, 0x18),
        ("R5 R8", 0x33, 0x2F), ("R5", 0x33, 0x28), ("R5", 0x33, 0x33), ("R3", 0x23, 0x2B))),
    *(Scenario(f"iretq to the kernel, ss {ss:#x}", "R5", "iretq", words=("target", 0x10, flags(), MIDDLE, ss))
      for ss in (0, 0x18, 0x2B)),
    Scenario("iretq to the kernel, a null SS of RPL 3", "R5", "iretq", bits("any_null_ss"),
             words=("target", 0x10, flags(), MIDDLE, 3)),
    Scenario("iretq to an address that is not canonical", "R6 R7", "iretq", words=(BAD, 0x33, flags(), USER_RSP, 0x2B),
             blocked=True),
    Scenario("iretq to 32-bit code above 4 GB", "R6", "iretq", bits("rip_is_cut"),
             words=(HOME + (1 << 32), 0x23, flags(), USER_RSP, 0x2B)),
    *(Scenario(f"{text}, all flags", "R3 R9", text, words=words, rsp=LOW + 256) for text, words in (
        ("iretq", (HOME, 0x33, ALL_FLAGS & ~flags(vm=1, tf=1, nt=1), USER_RSP, 0x2B)),
        ("iretl", (HOME | 0x33 << 32, (ALL_FLAGS & ~flags(vm=1, tf=1, nt=1)) | USER_RSP << 32, 0x2B)))),
    Scenario("iretw", "R3 R9", "iretw", words=(0x1000 | 0x33 << 16 | 0x8D5 << 32 | 0x2000 << 48, 0x2B),
             cells={"ac": 1, "id": 1}, home=0x1000, rsp=LOW + 256),
    Scenario("a data segment of the kernel at CPL 3", "R10", "iretq", bits("outer_return_clears_base"), words=HOMEWARDS,
             cells={"ds": 0x18, "es": 0x2B, "fs": 0x1B, "gs": 0, "fs_base": 7, "gs_base": 9}),
    Scenario("null selectors at CPL 3", "R10", "iretq", bits("outer_return_clears_null"), words=HOMEWARDS,
             cells={"ds": 3, "es": 0, "fs": 1, "gs": 2, "fs_base": 7, "gs_base": 9}),
    Scenario("iretq that sets TF", "R11", "iretq", ways("execute", "execute"),
             words=("target", 0x10, flags(tf=1), MIDDLE, 0x18)),
    Scenario("sysretq", "I8", "sysretq", cells={"rcx": HOME, "r11": ALL_FLAGS & ~flags(tf=1)}),
    Scenario("sysretl", "I8", "sysretl", cells={"rcx": HOME, "r11": flags(if_=1)}),
    Scenario("sysretq to an address that is not canonical", "I8", "sysretq", bits("late_sysret_fault"),
             cells={"rcx": BAD, "r11": flags()}),
]  # fmt: skip

PRIVILEGED = [
    Scenario("popfq at CPL 0", "I1", "popfq", words=(ALL_FLAGS & ~flags(tf=1),)),
    Scenario("pushfq", "I2", "pushfq", cells=COMMON | {"if_": 1, "rf": 1}),
    Scenario("cli and sti", "I3", "cli\n sti", ways("execute", "execute"), cells={"if_": 1}),
    Scenario("TF", "I4 I5", "nop", cells={"tf": 1}),
    Scenario("popfq that sets TF", "I4", "popfq", ways("execute", "execute"), words=(flags(tf=1),)),
    Scenario("int3 with TF", "I4", "int3", cells={"tf": 1}),
    Scenario("swapgs", "I6", "swapgs", cells={"gs": 3, "gs_base": 7, "kernel_gs_base": 9}),
    *(Scenario(f"mov of {selector:#x} to %{register}", rules, f"mov %ax, %{register}", cells={"rax": selector})
      for register, rules, selectors in (
          ("ds", "I11 R8", (0, 3, 0x10, 0x18, 0x1B, 0x23, 0x2B, 0x28, 0x2F, 0x1003)),
          ("ss", "I11", (0, 3, 0x10, 0x18, 0x1B, 0x2B, 0x28, 0x1C, 0x1000)))
      for selector in selectors),
    *(Scenario(f"{text} of {selector:#x}", "I13", f"{text} %ax", cells={"rax": selector}, choices=(("undef", 0),))
      for text in ("verr", "verw") for selector in (0, 3, 0x10, 0x18, 0x1B, 0x2B)),
    Scenario("pop of a bad selector", "I11", "pop %fs", words=(0x1B,), choices=(("undef", 0),)),
    *(Scenario(f"wrmsr {msr:#x}", "I9", "wrmsr", cells={"rcx": msr, "rax": 5, "rdx": 7}) for msr in (
        0xC000_0100, 0xC000_0101, 0xC000_0102)),
    Scenario("wrmsr of an address that is not canonical", "I9", "wrmsr",
             cells={"rcx": 0xC000_0101, "rax": 5, "rdx": 0x8000}),
]  # fmt: skip

AT_CPL_3 = [
    *(Scenario(f"{text} at CPL 3, gates of DPL {dpl}", "F2 F4 F9", text, at="user", dpl=dpl)
      for text in ("int $0x80", "int3", "int $2") for dpl in (0, 3)),
    *(Scenario(f"{text} at CPL 3, IOPL {iopl}", rules, text, at="user", cells={"iopl": iopl, "if_": 1},
               words=(ALL_FLAGS & ~flags(tf=1, iopl=3),))
      for text, rules in (("cli", "I3"), ("sti", "I3"), ("popfq", "I1"), ("pushfq", "I2")) for iopl in (0, 3)),
    *(Scenario(f"{text} at CPL 3", rules, text, at="user", cells={"rcx": 0xC000_0101})
      for text, rules in (("wrmsr", "I9"), ("swapgs", "I6"), ("sysretq", "I8"), ("hlt", "N10"))),
    Scenario("iretq at CPL 3", "N6 R3 R9 R12", "iretq", at="user", blocked=True,
             words=("target", 0x33, ALL_FLAGS & ~flags(vm=1, tf=1, nt=1), USER_RSP, 0x2B)),
    Scenario("iretq from CPL 3 to CPL 0", "R4", "iretq", at="user", words=ONWARDS),
    Scenario("mov to %ss at CPL 3", "I11", "mov %ax, %ss", at="user", cells={"rax": 3}),
]  # fmt: skip

DOUBLE = (("double_fault.cs", 0x10), ("double_fault.rip", HERE))
FAULTS = [
    Scenario("contributory in contributory", "H1 H2 F8", "mov (%rax), %rcx", ist=("double_fault",), rsp=BAD + 256,
             cells={"rax": BAD}, choices=DOUBLE),
    Scenario("contributory in benign", "H1 H2", "int3", ist=FAULTS_ON_IST, rsp=BAD + 256),
    Scenario("fault of a handler's first instruction", "H4", "int $0x80", ways("execute", "execute"),
             cells={"rax": BAD}),
    Scenario("NMI whose delivery faults", "H5", ways=bits("fault_in_nmi_delivery_blocks", "nmi"), ist=FAULTS_ON_IST,
             rsp=BAD + 256),
    Scenario("what a double fault saves", "H6", "mov (%rax), %rcx", ist=("double_fault",), rsp=BAD + 256,
             cells={"rax": BAD}, choices=DOUBLE),
]  # fmt: skip
SHUTDOWN = Scenario("fault in a double fault", "H3", "mov (%rax), %rcx", rsp=BAD + 256, cells={"rax": BAD})

ADDRESSES = [
    Scenario("the last canonical address", "A1", "mov (%rax), %rcx", cells={"rax": EDGE}),
    *(Scenario(f"{text} of a bad address", "A2", text, ist=FAULTS_ON_IST, cells={"rax": BAD, "rbp": BAD}) for text in (
        "mov %rcx, (%rax)", "mov (%rbp), %rcx", "mov %fs:(%rbp), %rcx", "lock incq (%rbp)")),
    *(Scenario(f"{text} of a bad address", "A2", text, bits("prefix_names_segment"), ist=FAULTS_ON_IST,
               cells={"rax": BAD, "rbp": BAD})
      for text in ("mov %ds:(%rbp), %rcx", "mov %cs:(%rbp), %rcx", "mov %ss:(%rax), %rcx")),
    *(Scenario(f"{text} to a bad stack", "A2 A9", text, ist=FAULTS_ON_IST, rsp=BAD + (8 if "pop" not in text else 0))
      for text in ("push %rax", "call target", "pop %rax", "pushfq")),
    Scenario("jmp to an address that is not canonical", "A3", "jmp *%rax", cells={"rax": BAD}),
    Scenario("call to an address that is not canonical", "A3", "call *%rax", cells={"rax": BAD}),
    Scenario("ret to an address that is not canonical", "A3", "ret", words=(BAD,)),
    Scenario("an access over the edge", "A4", "mov (%rax), %rcx", cells={"rax": EDGE - 4}),
    Scenario("unaligned access at CPL 0 with AC", "A5", "mov 3(%rsp), %rax", cells={"ac": 1},
             words=(0x1122334455667788, 0x99)),
    Scenario("push and pop of memory at rsp", "A8", "pushq 8(%rsp)\n popq 8(%rsp)\n push %rsp\n pop %rsp",
             ways(*4 * ["execute"]), words=(1, 2, 3)),
    Scenario("jmp and call through rsp", "A10", "jmp *(%rsp)", words=("target",)),
    Scenario("call through rsp", "A10", "call *8(%rsp)", words=(1, "target")),
    Scenario("gs base added", "A11", "mov %gs:8(%rax), %rcx", cells={"gs_base": MIDDLE, "rax": (1 << 64) - 8},
             words=(7, 8)),
    Scenario("selectors as operands", "A12", "mov %ss, %eax\n mov %cs, %rcx\n push %fs", ways(*3 * ["execute"]),
             cells={"rax": 1 << 63, "rcx": 1 << 63, "fs": 0x2B}),
]  # fmt: skip

SCENARIOS = NMIS + SHADOWS + PRIORITIES + DELIVERIES + RETURNS + PRIVILEGED + AT_CPL_3 + FAULTS + ADDRESSES
