.macro m, a , b=2 c
.byte \a, \b+0, \c+0
.endm
m 1
m 1 2,3
nop
