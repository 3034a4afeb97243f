# A handler with interrupts on in its body: decides twice on the same word, and keeps what it uses.
nmi:
	pushq %rax
	movq %gs:word,%rax
	cmpq $5,%rax
	jne 1f
	movb $1,%gs:flag
1:
body:
	...
after:
	cmpq $5,%rax
	jne 2f
	movb $0,%gs:flag
2:
	popq %rax
	iretq

irq:
	pushq %rax
	xorl %eax,%eax
	incb %gs:count
	popq %rax
	iretq

page_fault:
	pushq %rdx
	movq %gs:word,%rdx
	popq %rdx
	addq $8,%rsp
	iretq
