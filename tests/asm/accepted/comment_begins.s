/ a line
 / another
// and another
nop ; / to the end ; ret
a: / after a label
b: .long 1 /* a
comment that spans lines ends the statement */ ; .long 8 /* c */ / 2
ret
