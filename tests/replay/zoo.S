# Everything that a replay has to get right, in one program: shadows, undefined results, string instructions, changes of
# CPL and of stacks, traps, and code that is not shown with every fault that it can raise. It is good for nothing.

	.data
letters:
	.ascii	"abcdefgh"
	.section .rodata
digits:
	.ascii	"01234567"

	.text
	.globl	nmi, irq, machine_check, with_code, without_code

nmi:
	pushq	%rax
	pushq	%rcx
	pushq	%rdx
	pushq	%rsi
	pushq	%rdi
	pushfq
	movq	%cr2, %rax
	pushq	%rax
	shll	%cl, %edx			# OF, AF and at times CF are undefined
	bsfq	%rdx, %rcx			# all but ZF is; rcx too if rdx is 0
	mulq	%rdx
	movl	$3, %ecx
	leaq	digits(%rip), %rsi
	leaq	letters(%rip), %rdi
	cld
	rep movsb				# an NMI can come in between
	movw	%ss, %ax
	movw	%ax, %ss			# a shadow that also holds back NMIs on some processors
	incq	counter(%rip)
	movw	%ds, counter(%rip)
	movw	%fs, counter+2(%rip)
nmi_work:
	...
	popq	%rax
	popfq
	popq	%rdi
	popq	%rsi
	popq	%rdx
	popq	%rcx
	popq	%rax
	iretq

irq:
	pushq	%rbx
	cmpb	$0, %gs:busy			# a user's GS base leads anywhere
	movl	$0x10, %ebx
	cmpq	%rbx, 16(%rsp)
	je	1f
	swapgs
1:	sti					# a shadow: the next instruction is not interrupted
	nop
	xorl	%ebx, %ebx
irq_work:
	...
	cli
	cmpq	$0x10, 16(%rsp)
	je	2f
	swapgs
2:	popq	%rbx
	iretq

machine_check:
	pushq	%rax
	int3
	lahf
	popq	%rax
	iretq

with_code:
	addq	$8, %rsp
without_code:
	pushq	%rcx
	movl	$0x1234, %ecx
	rorq	%cl, 8(%rsp)
	rolq	%cl, 8(%rsp)
	popq	%rcx
	iretq
