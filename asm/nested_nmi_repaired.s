# The sketch of 15 July 2010, repaired: our own text, along the lines of the mail.
#
# Per-CPU data: nmi_stack_nesting, 0xff while the frame that nmi_stack_ptr points to is in use; nmi_stack_ptr, the
# copy of the outermost NMI's hardware frame (rip, cs, rflags, rsp, ss); the word above it keeps its CS while a nested
# NMI has put 0 there.

	.globl nmi, gp_handler

nmi:
	cmpb $0,%gs:nmi_stack_nesting
	jne nmi_nested

	# The flag is clear, but the frame may still be in use: on the final iret, and from there until the #GP
	# handler has set the flag again (an iret that faults unblocks NMIs too).
	cmpq $nmi_iret_address,0(%rsp)
	je nmi_on_iret
	cmpq $gp_handler,0(%rsp)
	jb nmi_first
	cmpq $gp_handler_flag_set,0(%rsp)
	jb nmi_in_gp_handler

nmi_first:
	# Copy the frame away from the top of the stack, where the next NMI writes. 64 bytes are enough for what a
	# nested NMI needs.
	subq $64,%rsp
	pushq 96(%rsp)				# ss
	pushq 96(%rsp)				# rsp
	pushq 96(%rsp)				# rflags
	pushq 96(%rsp)				# cs
	pushq 96(%rsp)				# rip
	movq %rsp,%gs:nmi_stack_ptr
	movb $0xff,%gs:nmi_stack_nesting

nmi_body:
	...
nmi_exit:
	# The body may have enabled interrupts. One on the iret below would hide that the frame is still in use.
	cli
	movb $0,%gs:nmi_stack_nesting
nmi_iret_address:
	iretq

nmi_on_iret:
	cmpw $__KERNEL_CS,8(%rsp)		# user code can run at any address
	jne nmi_first
	movq %gs:nmi_stack_ptr,%rsp		# NMIs stay blocked from here to the body
	movb $0xff,%gs:nmi_stack_nesting
	jmp nmi_body

nmi_in_gp_handler:
	cmpw $__KERNEL_CS,8(%rsp)
	jne nmi_first
	pushq %rax
	movq 32(%rsp),%rax			# the interrupted rsp: error code, then the frame of the #GP
	cmpq $nmi_iret_address,8(%rax)
	popq %rax
	jne nmi_first				# some other #GP
	movq %gs:nmi_stack_ptr,%rsp
	movb $0xff,%gs:nmi_stack_nesting
	jmp nmi_repeat

nmi_nested:
	# Make the final iret of the NMI that we are nested in fault, so that its body runs once more.
	pushq %rax
	pushq %rdx
	movq %gs:nmi_stack_ptr,%rax
	movq 8(%rax),%rdx
	testq %rdx,%rdx
	je nmi_nested_return			# it will fault already
	movq %rdx,40(%rax)
	movq $0,8(%rax)

nmi_nested_return:
	# Return without iret: NMIs stay blocked, and the next one waits for the next fault. rip and rflags go onto
	# the interrupted stack. IF is set last, by sti, whose shadow holds interrupts back until we are gone: with
	# popfq alone an interrupt before the ret would nest, and the next, without bound.
	subq $16,40(%rsp)
	movq 40(%rsp),%rdx
	movq 16(%rsp),%rax
	movq %rax,8(%rdx)
	movq 32(%rsp),%rax
	btrq $9,%rax				# IF, into the carry flag
	movq %rax,(%rdx)
	popq %rdx
	popq %rax
	movq 24(%rsp),%rsp
	jc 1f
	popfq
	ret
1:	popfq
	sti
	ret

# General protection: error code, rip, cs, rflags, rsp, ss from (%rsp) upwards.
	.type gp_handler,@function
gp_handler:
	cmpq $nmi_iret_address,8(%rsp)
	jne gp_other
	movb $0xff,%gs:nmi_stack_nesting
gp_handler_flag_set:
	movq %gs:nmi_stack_ptr,%rsp
nmi_repeat:
	pushq 40(%rsp)				# the CS that a nested NMI saved away
	popq 8(%rsp)
	jmp nmi_body
gp_other:
	ud2					# nothing else faults here
	.size gp_handler,.-gp_handler
