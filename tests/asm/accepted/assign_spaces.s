a = 5
b=6
.long a,b
nop
. = . + 3
ret
