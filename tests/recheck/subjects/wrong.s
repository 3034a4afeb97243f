# Breaks what one likes to say of a handler, and yet comes home.
nmi:
	movq $2,16(%rsp)
	movb $1,%gs:flag
1:
	cmpq $7,%gs:word
	je 1b
	cmpq $5,%gs:word
	jne after
body:
	...
after:
	iretq
never:
	ud2

irq:
	xorl %ebx,%ebx
	iretq
