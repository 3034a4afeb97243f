/*
 * An NMI entry that keeps its state on the NMI stack. The text is ours; docs/nmi-on-the-stack.md explains it.
 *
 * The NMI stack, from its top T:
 *
 *   T-40    the frame that the processor pushes: every NMI writes it anew
 *   T-56    two registers, while an entry finds out what it is
 *   T-64    the word: 1 while an outermost NMI is under way
 *   T-104   the pristine frame: the context that the outermost NMI interrupted
 *   T-144   the return frame, which the outermost NMI returns by: that context, or `nmi_repeat`
 *           below it the registers, and the stack of the C code
 *
 * An NMI that comes from user mode leaves this stack at once, for that of the thread. Each macro makes one mistake:
 *
 *   RSP_ALONE            an interrupted RSP on the NMI stack means nested, whatever DF says
 *   SPILL_NOT_COUNTED    the nested NMI writes its frame one word too low: it has pushed one register more than it counts
 *   NO_RANGE_CHECK       no special case for an NMI that interrupts the copying of the frame
 *   RANGE_CHECK_LATE     there is one, but after the test of the word
 *   GS_BY_CS             from kernel mode, GS is taken for the kernel's
 *   GS_BY_SIGN           a GS base in the upper half is taken for the kernel's
 *   NO_CLD, NO_CLAC      DF or AC as the interrupted context had it
 *   NO_CR2               CR2 is not put back
 *   SCHEDULES            the way back to user mode schedules, with NMIs blocked
 *   USER_ON_NMI_STACK    an NMI from user mode stays on this stack: the last iretq, which can fault, comes after the word
 *
 * and SWITCH_CR3 makes none: user mode has page tables of its own, whose CR3 has bit 12 set.
 */

#define MSR_GS_BASE 0xc0000101
#define FLAGS_AT_REPEAT 2		/* nothing set but the bit that always is */
#define USER_TABLES 0x1000

	.macro SAVE_REGISTERS
	pushq %rax
	pushq %rcx
	pushq %rdx
	pushq %rsi
	pushq %rdi
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	.endm

	.macro RESTORE_REGISTERS
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rdi
	popq %rsi
	popq %rdx
	popq %rcx
	popq %rax
	.endm

	.text
	.type nmi,@function
nmi:
#ifndef NO_CLAC
	clac
#endif
#ifndef NO_CLD
	cld
#endif
	testb $3,8(%rsp)
#ifdef USER_ON_NMI_STACK
	jnz nmi_take_frame
#else
	jz nmi_from_kernel

/* From user mode. Until the iretq at the end nothing that returns runs but the C code: NMIs are blocked till there. */
	swapgs
	pushq %rax
#ifdef SWITCH_CR3
	movq %cr3,%rax
	pushq %rax
	andq $~USER_TABLES,%rax
	movq %rax,%cr3
	leaq 16(%rsp),%rax
#else
	leaq 8(%rsp),%rax
#endif
	movq %gs:thread_top,%rsp
	pushq 32(%rax)
	pushq 24(%rax)
	pushq 16(%rax)
	pushq 8(%rax)
	pushq (%rax)
#ifdef SWITCH_CR3
	pushq -16(%rax)
#endif
	movq -8(%rax),%rax
	SAVE_REGISTERS
#ifndef NO_CR2
	movq %cr2,%r12
#endif
	call nmi_c
#ifndef NO_CR2
	movq %r12,%cr2
#endif
#ifdef SCHEDULES
	cmpb $0,%gs:need_resched
	je nmi_user_exit
	call schedule
nmi_user_exit:
#endif
	RESTORE_REGISTERS
	swapgs
#ifdef SWITCH_CR3
	pushq %rax
	movq 8(%rsp),%rax
	movq %rax,%cr3
	popq %rax
	addq $8,%rsp
#endif
nmi_user_iret:
	iretq
#endif

nmi_from_kernel:
	pushq %rax
	pushq %rdx
	/* rsp is T-56; the processor's frame: rip 16(%rsp), cs 24, rflags 32, rsp 40, ss 48 */
#ifdef RANGE_CHECK_LATE
	cmpq $0,-8(%rsp)
	jne nmi_nested
#endif
#ifndef NO_RANGE_CHECK
	leaq nmi_repeat(%rip),%rax
	cmpq %rax,16(%rsp)
	jb nmi_not_repeating
	leaq nmi_repeat_end(%rip),%rax
	cmpq %rax,16(%rsp)
	jb nmi_nested_out		/* the C code is about to be run: that is for us, too */
nmi_not_repeating:
#endif
	cmpq $0,-8(%rsp)
	jne nmi_nested
	leaq 56(%rsp),%rax
	cmpq %rax,40(%rsp)
	ja nmi_outermost		/* interrupted above the NMI stack */
	subq $NMI_STACK_SIZE,%rax
	cmpq %rax,40(%rsp)
	jb nmi_outermost		/* below it */
#ifndef RSP_ALONE
	testb $4,33(%rsp)		/* DF: user mode may have chosen this RSP, but then SYSCALL has cleared DF */
	jz nmi_outermost
#endif

nmi_nested:
#ifdef SPILL_NOT_COUNTED
	.set down,96
#else
	.set down,88
#endif
	leaq nmi_repeat(%rip),%rax
	movq %rax,-down(%rsp)
	movq $__KERNEL_CS,8-down(%rsp)
	movq $FLAGS_AT_REPEAT,16-down(%rsp)
	leaq -88(%rsp),%rax
	movq %rax,24-down(%rsp)
	movq $__KERNEL_SS,32-down(%rsp)
nmi_nested_out:
	popq %rdx
	popq %rax
nmi_nested_iret:
	iretq

nmi_outermost:
	popq %rdx
	popq %rax
nmi_take_frame:
	subq $24,%rsp			/* the two registers' room, and the word */
	pushq 56(%rsp)			/* the pristine frame: ss, rsp, rflags, cs, rip */
	pushq 56(%rsp)
	pushq 56(%rsp)
	pushq 56(%rsp)
	pushq 56(%rsp)
	subq $40,%rsp			/* the return frame's room */

/* Also where the return frame of a nested NMI leads: the NMI's registers are the interrupted context's, rsp is T-144. */
nmi_repeat:
	movq $1,80(%rsp)
	pushq 40(%rsp)
	popq (%rsp)
	pushq 48(%rsp)
	popq 8(%rsp)
	pushq 56(%rsp)
	popq 16(%rsp)
	pushq 64(%rsp)
	popq 24(%rsp)
	pushq 72(%rsp)
	popq 32(%rsp)
nmi_repeat_end:
	SAVE_REGISTERS
#ifdef SWITCH_CR3
	movq %cr3,%r14
	movq %r14,%rax
	andq $~USER_TABLES,%rax
	movq %rax,%cr3
#endif
#ifdef GS_BY_SIGN
	xorl %ebx,%ebx
#endif
#ifndef GS_BY_CS
	movl $MSR_GS_BASE,%ecx		/* CPL 0 may still, or again, have the user's GS base */
	rdmsr
#ifdef GS_BY_SIGN
	testl %edx,%edx
	js nmi_gs_good
	swapgs
	incl %ebx
nmi_gs_good:
#else
	movl %eax,%ebx
	movl %edx,%r13d
	movl cpu_base(%rip),%eax
	movl cpu_base+4(%rip),%edx
	wrmsr
#endif
#endif
#ifndef NO_CR2
	movq %cr2,%r12
#endif
	call nmi_c
#ifndef NO_CR2
	movq %r12,%cr2
#endif
#ifdef GS_BY_SIGN
	testl %ebx,%ebx
	jz nmi_gs_back
	swapgs
nmi_gs_back:
#elif !defined(GS_BY_CS)
	movl $MSR_GS_BASE,%ecx
	movl %ebx,%eax
	movl %r13d,%edx
	wrmsr
#endif
#ifdef SWITCH_CR3
	movq %r14,%cr3
#endif
	RESTORE_REGISTERS
	std				/* from here on, what tells a nested NMI is RSP and DF */
	movq $0,80(%rsp)
nmi_iret:
	iretq
	.size nmi,.-nmi
