mov (b-a)(%rsp),%rax
a: nop
b: mov (b-a)(%rsp),%rax
.long b-a, .-a
.byte a-b
