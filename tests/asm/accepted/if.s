.set x,3
.if x==3
.byte 1
.else
.byte 2
.endif
.if x>5
.byte 3
.elseif x>2
.byte 4
.elseif 1
.byte 5
.else
.byte 6
.endif
.ifdef x
.byte 7
.endif
.ifndef y
.byte 8
.endif
.ifc a,a
.byte 9
.endif
.ifnc a , b
.byte 10
.endif
.ifb
.byte 11
.endif
.ifnb z
.byte 12
.endif
.ifeq 0
.byte 13
.endif
.ifne 0
.byte 14
.if 1
.byte 99
.endif
.else
.byte 15
.endif
.ifgt 1
.byte 16
.endif
.iflt 1
.byte 17
.endif
.ifge 0
.byte 18
.endif
.ifle 1
.byte 19
.endif
nop
a: nop
.if .-a==1
ret
.endif
.ifeqs "a","a"
.byte 20
.endif
.ifdef a
.byte 21
.endif
.ifdef later
.byte 22
.endif
later: nop
.ifc a  b,	a b
.byte 23
.endif
.ifc a + b,a+b
.byte 24
.endif
.ifc "a,b","a,b"
.byte 25
.endif
.ifc (a,b),(a
.byte 26
.endif
.ifeqs "a b","a\040b"
.byte 27
.endif
.ifnes "a,b" , "a,c"
.byte 28
.endif
