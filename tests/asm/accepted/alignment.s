nop
.p2align 5
a: nop
.p2align 4,,3
b: ret
.balign 8
c: .skip 3
.p2align 4
d: nop
.balign 16,0xcc
e: ret
.balign 32,0
f: nop
.p2align 4,0x90
g: nop
.p2align 5,,
h: ret
