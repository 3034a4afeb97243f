# A machine check handler that does nothing that matters here, and ends in an iret, as all of them do. Ours.

	.globl machine_check_handler

	.type machine_check_handler,@function
machine_check_handler:
	...
machine_check_iret:
	iretq
	.size machine_check_handler,.-machine_check_handler
