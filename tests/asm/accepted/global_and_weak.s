a:
.globl g
g: nop
jmp g
.weak w
w: nop
jmp w
jmp a
.globl h
jmp h
h: ret
