.rept 3
nop
.rept 2
ret
.endr
.endr
.rept 0
hlt
.endr
.irp r,rax,rbx,rcx
push %\r
.endr
.irpc c,012
.byte \c
.endr
