a: jmp b
.skip 110
.p2align 4
b: jmp a
.skip 100
.p2align 5
jne a
jmp c
.skip 127
c: ret
