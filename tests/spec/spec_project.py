"""One small project: an assembly file, a specification that loads, and ways to change either."""

from __future__ import annotations

from pathlib import Path

import verifier.spec

ASM = """\
	.text
nmi:
	cmpb $0,%gs:nmi_stack_nesting
	jne nmi_exit
	movb $0xff,%gs:nmi_stack_nesting
	movq %rsp,%gs:nmi_stack_ptr
regular_nmi_code:
	...
nmi_exit:
	movb $0,%gs:nmi_stack_nesting
nmi_iret_address:
	iretq
irq_handler:
	iretq
page_fault_handler:
	iretq
gp_handler:
	iretq
"""

SPEC = """\
format: 1
title: A small NMI handler
program:
  source: ../asm/small.s
machine:
  stacks:
    nmi_ist: {size: 4096}
    kernel_stack: {size: 8192}
  rsp0: kernel_stack
  idt:
    nmi: {entry: nmi, gate: interrupt, stack: nmi_ist}
    irq: {entry: irq_handler, gate: interrupt}
    page_fault: {entry: page_fault_handler, gate: trap}
  percpu:
    nmi_stack_nesting: {size: 1, initially: 0}
    nmi_stack_ptr: {size: 8}
  data:
    some_flag: {size: 4, initially: 7}
holes:
  regular_nmi_code: {may: [page_fault], keeps: [registers]}
environment:
  interrupted: [user: {gs: kernel}, kernel]
  events: {nmi: any, irq: 2, page_fault: any}
  outermost: [nmi]
properties:
  context-restored: {that: "restored(rip, cs, rflags, rsp, ss, rax)", expect: refuted}
  frame: {that: intact(frame at %gs:nmi_stack_ptr), at: regular_nmi_code}
  race:
    that: intact(frame)
    during: [nmi, page_fault in regular_nmi_code, irq at nmi_iret_address, nmi in irq_handler, "*"]
"""


class Project:
    """A folder tree with ``pyproject.toml``, ``asm/small.s`` and ``specs/small.yaml``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("asm", "specs"):
            (root / folder).mkdir()
        (root / "pyproject.toml").touch()
        self.asm(ASM)

    def asm(self, text: str) -> None:
        (self.root / "asm" / "small.s").write_text(text)

    def spec(self, text: str | bytes = SPEC) -> Path:
        path = self.root / "specs" / "small.yaml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def load(self, text: str | bytes = SPEC) -> verifier.spec.Model:
        return verifier.spec.load(self.spec(text))
