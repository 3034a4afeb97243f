.skip n
nop
.set n,5
.fill b-a,2,3
a: ret
 jmp a
b: nop
