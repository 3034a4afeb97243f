cmpq $a,8(%rsp)
a: movq $a,%rax
movabs $a,%rax
pushq $a
movl $b-a,%eax
b: nop
