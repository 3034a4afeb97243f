.balign 16
.skip 0
nop
.balign 16
l0: nop
.balign 16
.skip 1
nop
.balign 16
l1: nop
.balign 16
.skip 2
nop
.balign 16
l2: nop
.balign 16
.skip 3
nop
.balign 16
l3: nop
.balign 16
.skip 4
nop
.balign 16
l4: nop
.balign 16
.skip 5
nop
.balign 16
l5: nop
.balign 16
.skip 6
nop
.balign 16
l6: nop
.balign 16
.skip 7
nop
.balign 16
l7: nop
.balign 16
.skip 8
nop
.balign 16
l8: nop
.balign 16
.skip 9
nop
.balign 16
l9: nop
.balign 16
.skip 10
nop
.balign 16
l10: nop
.balign 16
.skip 11
nop
.balign 16
l11: nop
.balign 16
.skip 12
nop
.balign 16
l12: nop
.balign 16
.skip 13
nop
.balign 16
l13: nop
.balign 16
.skip 14
nop
.balign 16
l14: nop
.balign 16
.skip 15
nop
.balign 16
l15: nop
