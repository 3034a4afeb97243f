.macro m a, b=5, c:req
.long \a,\b,\c
.endm
m 1,,3
m c=9 a=2
m 1 2 3
m (1+2), 4 , 5
.macro s x
.ascii "<\x>"
.endm
s abc
s "a b"
s "x,y"
s (a b)
.macro v first rest:vararg
.byte \first
.ifnb \rest
v \rest
.endif
.endm
v 1,2,3,4
.macro l
.Ll\@: jmp .Ll\@
L\@x: nop
.endm
l
l
.macro j x y
.ascii "\x\()\y"
lab\x\()_z: nop
.endm
j 1 2
.macro e n
.if \n==0
.exitm
.endif
.byte \n
e \n-1
.endm
e 4
.purgem e
.macro e
hlt
.endm
e
E
