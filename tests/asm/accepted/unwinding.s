.file "a.c"
labelled: .file 1 "a.c"
.loc 1 5 2 is_stmt 1
f: .cfi_startproc simple
.cfi_def_cfa %rsp, 8
.cfi_def_cfa rsp,8
.cfi_def_cfa_register 6
nop
.cfi_adjust_cfa_offset 4*2
.cfi_offset %rbp, -16
.cfi_restore %rbp, %rbx
.cfi_remember_state
.cfi_restore_state
.cfi_escape 1, 2, 3
.cfi_personality 0xff
.cfi_lsda 0,f
.cfi_signal_frame
ret
.cfi_endproc
.cfi_sections .eh_frame , .debug_frame
