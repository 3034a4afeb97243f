a: jmp *%rax
jmp *8(%rax)
jmp *a
call *a(%rip)
call a
call *%gs:8
loop a
jrcxz a
jmp a@PLT
