.file "x.c"
.ident "me"
.type a,@function
a: .cfi_startproc
nop
.cfi_endproc
.size a, .-a
.code64
.att_syntax
