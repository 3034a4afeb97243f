movb $'a,%al
movb $'b',%al
movb $'\n',%al
.byte 'a+1,';,'#,'\\
