mov 8(%rax,%rbx,4),%rcx
mov (,%rbx,8),%rcx
mov 8(,%rbx),%ecx
mov %gs:8,%rax
mov %fs:(%rax),%al
mov -8(%rbp),%rax
mov (4+4)*2(%rsp),%rax
mov 11*8(%rsp), %rdi
mov ( %rax , %rbx , 2 ) , %cx
mov 0x10,%eax
movq %gs:0x10(,%rax,8), %rsp
mov %rax, %gs : 8
