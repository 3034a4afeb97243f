"""A small project that is right, and ways to break it: what the tests of bad input start from."""

from __future__ import annotations

from pathlib import Path

ASM = """\
nmi:
	pushq %rax
	movb $1, %gs:busy
work:
	...
nmi_exit:
	movb $0, %gs:busy
	popq %rax
	iretq
page_fault:
	addq $8, %rsp
	iretq
"""

SPEC = """\
format: 1
program: {source: nmi.S}
machine:
  stacks:
    nmi_ist: {size: 4096}
  idt:
    nmi: {entry: nmi, gate: interrupt, stack: nmi_ist}
    page_fault: {entry: page_fault, gate: interrupt}
  percpu:
    busy: {size: 1, initially: 0}
holes:
  work: {may: [page_fault], keeps: [registers]}
environment:
  interrupted: [user: {gs: kernel}]
  events: {nmi: 2, page_fault: 1}
  outermost: [nmi]
properties:
  restored: {that: "restored(rip, rax)"}
"""


class Project:
    """A folder tree of its own with ``nmi.S`` and ``nmi.yaml``; ``path`` is the specification."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        (root / "pyproject.toml").touch()
        self.path = root / "nmi.yaml"
        self.source = root / "nmi.S"
        self.asm(ASM)
        self.spec(SPEC)

    def asm(self, text: str | bytes) -> None:
        self.source.write_bytes(text.encode() if isinstance(text, str) else text)

    def spec(self, text: str | bytes) -> None:
        self.path.write_bytes(text.encode() if isinstance(text, str) else text)

    def replace_asm(self, old: str, new: str) -> None:
        assert ASM.count(old) >= 1, old
        self.asm(ASM.replace(old, new, 1))

    def replace_spec(self, old: str, new: str) -> None:
        assert SPEC.count(old) >= 1, old
        self.spec(SPEC.replace(old, new, 1))
