# The monitor: what a machine runs before it is handed over, and small pieces of code that a debugger points rip at.
#
# Loaded at physical LOAD by a multiboot loader, or by anything else that enters `start` in 32-bit protected mode with
# flat segments. All of physical memory up to 1 GB stands at WINDOW in virtual memory, but for its last 2 MB, where the
# local APIC is. Everything that depends on the run (tables, page tables, the pages of the program) comes behind this
# text; where it is, `parameters` says.
#
# Whoever assembles this defines WINDOW and LOAD; the linker, APIC.

	.set	MSR_EFER, 0xc0000080
	.set	MSR_STAR, 0xc0000081
	.set	MULTIBOOT, 0x1badb002
	.set	FLAGS, 0x00010000		# the fields of addresses are valid: the image is no ELF file

	.text
	.globl	start, header, parameters, ready, pads, nop_, iretq_, eoi, send_nmi, send_irq, swapgs_, wrmsr_, rdmsr_, monitor_stack
	.balign	4
header:
	.long	MULTIBOOT, FLAGS, -(MULTIBOOT + FLAGS)
	.long	header - WINDOW, LOAD, 0, 0, start - WINDOW

	.balign	16
parameters:
boot_cr3:	.quad	0			# maps the image at its physical addresses too
final_cr3:	.quad	0
gdt_limit:	.word	0
gdt_base:	.quad	0
idt_limit:	.word	0
idt_base:	.quad	0
code_selector:	.word	0
stack_selector:	.word	0
task_selector:	.word	0
local_selector:	.word	0
star_high:	.long	0
physical_gdt:	.word	0			# the same table, while there is no paging
		.long	0

	.code32
start:
	cli
	movl	boot_cr3 - WINDOW, %eax
	movl	%eax, %cr3
	movl	$0x660, %eax			# CR4: PAE, MCE, OSFXSR, OSXMMEXCPT
	movl	%eax, %cr4
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$0x101, %eax			# LME, SCE
	wrmsr
	lgdtl	physical_gdt - WINDOW
	movl	$0x80010033, %eax		# CR0: PG, WP, NE, ET, MP, PE
	movl	%eax, %cr0
	movl	$monitor_stack - WINDOW, %esp
	xorl	%eax, %eax
	movw	code_selector - WINDOW, %ax
	pushl	%eax
	pushl	$low64 - WINDOW
	lretl

	.code64
low64:
	movabsq	$high64, %rax
	jmp	*%rax
high64:
	leaq	monitor_stack(%rip), %rsp
	movq	final_cr3(%rip), %rax
	movq	%rax, %cr3
	lgdt	gdt_limit(%rip)
	lidt	idt_limit(%rip)
	movw	stack_selector(%rip), %ss
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	lldt	local_selector(%rip)
	ltr	task_selector(%rip)
	movl	$MSR_STAR, %ecx
	movl	star_high(%rip), %edx
	wrmsr
	movl	$7, %eax			# FSGSBASE, where the processor has it
	xorl	%ecx, %ecx
	cpuid
	andl	$1, %ebx
	shll	$16, %ebx
	movq	%cr4, %rax
	orq	%rbx, %rax
	movq	%rax, %cr4
	movb	$0xff, %al			# both PICs: everything masked
	outb	%al, $0x21
	outb	%al, $0xa1
	movl	$0x1ff, APIC + 0xf0(%rip)	# APIC on; spurious interrupts are vector 255
	movl	$0x10000, APIC + 0x350(%rip)	# LINT0: masked
	movl	$0x400, APIC + 0x360(%rip)	# LINT1: NMI
	xorl	%eax, %eax
	movq	%rax, %cr8
ready:
	jmp	ready

# No piece below touches a register or a flag, unless it says so. They may run at any CPL.
	.balign	16
nop_:	nop
	.balign	16
iretq_:	iretq					# the caller sets rsp to a frame
	.balign	16
eoi:	movl	$0, APIC + 0xb0(%rip)
	.balign	16
send_nmi:
	movl	$0x4400, APIC + 0x300(%rip)	# to self: physical destination 0, NMI
	.balign	16
swapgs_:
	swapgs
	.balign	16
wrmsr_:	wrmsr
	.balign	16
rdmsr_:	rdmsr					# changes rax and rdx
	.balign	16
send_irq:					# one for each vector, 16 bytes apart
	.set	vector, 0
	.rept	256
	movl	$0x4000 + vector, APIC + 0x300(%rip)
	.balign	16
	.set	vector, vector + 1
	.endr

# Where control comes for a vector that the program has no gate for, 16 bytes apart; also a place for a debugger that
# cannot stop at the first instruction of a handler: nothing happens there.
	.balign	16
pads:
	.rept	256
	nop
0:	jmp	0b
	.balign	16
	.endr

	.balign	16
	.skip	1024
monitor_stack:
