nop # a; ret
/* ret
ret */ nop; nop /* x */ ; nop
  # '
.ascii "#;/*"
nop
