lock incl (%rax)
lock; incl (%rax)
rep movsb
rep; nop
repne scasb
rep stosq
