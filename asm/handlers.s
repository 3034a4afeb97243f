# The handlers around an NMI entry under study: ours, not from any mail. Each is code that is not shown (its
# contract stands in the specification) between its entry and its iret.

	.globl irq_handler, page_fault_handler

	.type irq_handler,@function
irq_handler:
	...
irq_iret:
	iretq
	.size irq_handler,.-irq_handler

	.type page_fault_handler,@function
page_fault_handler:
	...
	addq $8,%rsp			# the error code
page_fault_iret:
	iretq
	.size page_fault_handler,.-page_fault_handler
