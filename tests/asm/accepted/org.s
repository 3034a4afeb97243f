nop
.org 16
a: ret
.org a+20
b: ret
