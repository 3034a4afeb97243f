mov 4(%rip),%rax
mov x(%rip),%rax
lea x+4(%rip),%rsi
mov x,%eax
.set y,8
mov y(%rip),%rax
x: nop
