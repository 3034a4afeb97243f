nop
.lcomm c,24
.lcomm d,4
mov c,%eax
mov d,%eax
