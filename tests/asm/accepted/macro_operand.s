.macro mv s d
mov \s,\d
.endm
mv "8(%rax,%rbx)" %rcx
mv $1, %eax
mv %gs:8 %rax
mv -8(%rsp), %rdx
