mov x(%rsp),%rax
.long x
.set x,1
.long x
.set x,2
.long x
