.set x,4
x2=x+1
 mov x(%rsp),%rax
.set x,300
 mov x(%rsp),%rax
 mov x2(%rsp),%rax
.long x2
