nop
a: call f
.section .entry.text,"ax",@progbits
f: ret
.previous
jmp f
.data
d: .quad a, f, d
.section .rodata
r: .long r-., 1
.pushsection .fixup,"ax"
x: jmp a
.popsection
.long 3
.bss
z: .skip 100
.text
nop
.section .data.hot,"aw"
.long f - .
.byte 1
.balign 32
q: .byte 2
