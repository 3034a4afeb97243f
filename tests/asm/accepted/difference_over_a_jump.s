a: jmp c
b: mov (b-a)(%rsp),%rax
.skip 100
c: .byte b-a
