# An NMI handler whose frame a second NMI overwrites, once a fault's iret has let it in.
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
page_fault_exit:
	iretq
