a: jmp c
b: nop
.skip -((d-c)-(b-a) > 0) * ((d-c)-(b-a)),0x90
nop
c: nop;nop;nop;nop;nop
d: ret
