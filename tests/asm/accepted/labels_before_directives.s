.macro m
nop
end_of_m: .endm
m
.rept 1
.irp x,1,2
.byte \x
.endr
nop
end_of_rept: .endr
.if 0
skipped: .endif
1: .else
ret
.IFDEF skipped
.endif
.ifc a,b
.endif
.endif
live: .if 1
hlt
done: .endif
nop
