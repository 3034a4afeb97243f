MOV %RAX,%rbx
NOP
.BYTE 1
.macro Foo
hlt
.endm
foo
