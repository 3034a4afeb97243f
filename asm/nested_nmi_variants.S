/*
 * The sketch of 15 July 2010 once more, with one change per macro. Without any macro it is, instruction for
 * instruction, the text as posted (a test compares the two). The comments of the original are left out.
 *
 *   CLI               Mathieu Desnoyers' remedy: interrupts off at the very start
 *   REPAIR_RETURN     the nested return brings back flags, stack and rip
 *   REPAIR_FLAG       the flag is set again where an NMI on the final iret starts the body over
 *   REPAIR_GP_WINDOW  an NMI before the #GP handler has set the flag again counts as nested
 *   REPAIR_EXIT       interrupts off before the flag is cleared, for a body that may have set IF
 */

nmi:
#ifdef CLI
	cli
#endif
	cmpb $0,%gs:nmi_stack_nesting
	jne nmi_nested_corrupt_and_return
	cmpq $nmi_iret_address,0(%rsp)
	je nmi_might_be_nested
#ifdef REPAIR_GP_WINDOW
	cmpq $gp_handler,0(%rsp)
	jb is_unnested_nmi
	cmpq $gp_window_end,0(%rsp)
	jb nmi_in_gp_window
#endif
is_unnested_nmi:
	subq $64,%rsp
	pushq 96(%rsp)
	pushq 96(%rsp)
	pushq 96(%rsp)
	pushq 96(%rsp)
	pushq 96(%rsp)
	movq %rsp,%gs:nmi_stack_ptr
	movb $0xff,%gs:nmi_stack_nesting

regular_nmi_code:
	...
nmi_exit:
#ifdef REPAIR_EXIT
	cli
#endif
	movb $0,%gs:nmi_stack_nesting
nmi_iret_address:
	iretq

nmi_might_be_nested:
	cmpw $__KERNEL_CS,8(%rsp)
	jne is_unnested_nmi
	movq %gs:nmi_stack_ptr,%rsp
#ifdef REPAIR_FLAG
	movb $0xff,%gs:nmi_stack_nesting
#endif
	jmp regular_nmi_code

nmi_nested_corrupt_and_return:
	pushq %rax
	pushq %rdx
	movq %gs:nmi_stack_ptr,%rax
	movq 8(%rax),%rdx
	testq %rdx,%rdx
	je nmi_nested_and_already_corrupted
	movq %rdx,40(%rax)
	movq $0,8(%rax)
nmi_nested_and_already_corrupted:
#ifdef REPAIR_RETURN
	subq $16,40(%rsp)		/* room for rflags and rip on the interrupted stack */
	movq 40(%rsp),%rdx
	movq 16(%rsp),%rax
	movq %rax,8(%rdx)
	movq 32(%rsp),%rax
	movq %rax,(%rdx)
#endif
	popq %rdx
	popq %rax
#ifdef REPAIR_RETURN
	movq 24(%rsp),%rsp
	popfq
nmi_nested_ret:
	ret
#else
	popfq
	jmp *(%rsp)
#endif

#ifdef REPAIR_GP_WINDOW
/* An NMI in the #GP handler, before it has set the flag again: if that #GP came from the final iret, start over. */
nmi_in_gp_window:
	cmpw $__KERNEL_CS,8(%rsp)
	jne is_unnested_nmi
	pushq %rax
	movq 32(%rsp),%rax		/* the interrupted rsp: error code, then the frame of the #GP */
	cmpq $nmi_iret_address,8(%rax)
	popq %rax
	jne is_unnested_nmi
	movq %gs:nmi_stack_ptr,%rsp
	movb $0xff,%gs:nmi_stack_nesting
	jmp gp_uncorrupt
#endif

/* The #GP of a poisoned iret: not in the mail, ours. See nested_nmi_gp_fixup.s. */
gp_handler:
	cmpq $nmi_iret_address,8(%rsp)
	jne gp_other
#ifdef REPAIR_GP_WINDOW
	movb $0xff,%gs:nmi_stack_nesting
gp_window_end:
	movq %gs:nmi_stack_ptr,%rsp
gp_uncorrupt:
	pushq 40(%rsp)
	popq 8(%rsp)
#else
	movq %gs:nmi_stack_ptr,%rsp
	pushq 40(%rsp)
	popq 8(%rsp)
	movb $0xff,%gs:nmi_stack_nesting
#endif
	jmp regular_nmi_code
gp_other:
	ud2
	.size gp_handler,.-gp_handler
