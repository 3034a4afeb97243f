.quad 0x1F, 017, 0b101, 10, 0, 0xffffffffffffffff, -1, 0x8000000000000000
nop
