a: b:
 nop; c: ret
1: jmp 1b; jmp 1f
1: jmp a
.Lx: jne .Lx
