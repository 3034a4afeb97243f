a: nop
.set b,a+1
.long b-a
c = . - a
.long c
.quad b
