# What the mail of 15 July 2010 leaves out: the #GP that the poisoned iret raises has to put the old CS back and run
# the NMI code once more. Ours, written from the mail's description.
#
# On entry: error code, rip, cs, rflags, rsp, ss from (%rsp) upwards.

	.globl gp_handler

	.type gp_handler,@function
gp_handler:
	cmpq $nmi_iret_address,8(%rsp)		# the final iret of an NMI?
	jne gp_other
	movq %gs:nmi_stack_ptr,%rsp		# forget the #GP frame: the NMI's own copy is what counts
	pushq 40(%rsp)				# the CS that the nested NMI saved away
	popq 8(%rsp)
	movb $0xff,%gs:nmi_stack_nesting
	jmp regular_nmi_code

gp_other:					# any other #GP is none of our business, and does not happen here
	ud2
	.size gp_handler,.-gp_handler
