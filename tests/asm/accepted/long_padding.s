nop
.p2align 6
nop
.org 256-88
.p2align 8
.org 512-87
.p2align 8
.org 1024-129
.p2align 9
.org 2048-130
.p2align 10
ret
.set .,.+5
.p2align 9
a: jmp a@PLT
