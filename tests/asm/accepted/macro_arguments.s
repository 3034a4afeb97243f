.macro m a b c
.ascii "[\a][\b][\c]"
.endm
m a -b
m b=3 a=1+ 2
m x,,y
m "x y" "q"
m a+b , c -d
m %rax %rbx
m $1 $2
m 1 + 2
m (a) (b)
m a * b
m a.b c_d
m 8(%rax)
m [a b] c
m "a\"b"
m a*b c*d
m ~1 !2
 nop
