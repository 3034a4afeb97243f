# Runs instructions at CPL 3 on this CPU, one a record (see lift_records.py); a Linux program without a library.
#
# Standard input is the file of records. Each state is entered by rt_sigreturn; the trap after the instruction, or
# its fault, comes back as a signal, whose context is what is reported.

.set SYS_mmap, 9
.set SYS_rt_sigaction, 13
.set SYS_rt_sigreturn, 15
.set SYS_exit, 60
.set SYS_sigaltstack, 131
.set SYS_arch_prctl, 158
.set ARCH_SET_GS, 0x1001
.set ARCH_SET_FS, 0x1002
.set ARCH_GET_FS, 0x1003
.set ARCH_GET_GS, 0x1004
.set SHARED, 0x100001                   # MAP_FIXED_NOREPLACE | MAP_SHARED
.set PRIVATE, 0x100022                  # MAP_FIXED_NOREPLACE | MAP_ANONYMOUS | MAP_PRIVATE

.macro syscall3 number, a, b, c
    mov     $\number, %eax
    mov     \a, %rdi
    mov     \b, %rsi
    mov     \c, %rdx
    syscall
.endm

.macro map address, length, protection, flags, descriptor
    mov     $SYS_mmap, %eax
    mov     $\address, %edi
    mov     \length, %rsi
    mov     $\protection, %edx
    mov     $\flags, %r10d
    mov     $\descriptor, %r8
    xor     %r9d, %r9d
    syscall
    cmp     $\address, %rax
    jne     fail
.endm

.text
.globl _start
_start:
    map     FILE, $0x1000, 3, SHARED, 0                 # its header says how many records, and how long it is
    mov     FILE, %rax
    mov     %rax, remaining
    mov     FILE+8, %r12
    mov     FILE+16, %rax
    mov     %rax, has_fsgsbase
    map     WHOLE_FILE, %r12, 3, SHARED, 0
    map     CODE, $0x1000, 7, PRIVATE, -1
    map     ARENA-0x1000, $0x3000, 3, PRIVATE, -1
    mov     $CODE, %edi
    mov     $0xCC, %eax                                 # int3, wherever a branch leads
    mov     $0x1000, %ecx
    rep stosb
    syscall3 SYS_sigaltstack, $altstack, $0, $0
    mov     $signals, %ebx
1:  movzbl  (%rbx), %ecx
    test    %ecx, %ecx
    jz      2f
    mov     $SYS_rt_sigaction, %eax
    mov     %ecx, %edi
    mov     $action, %esi
    xor     %edx, %edx
    mov     $8, %r10d
    syscall
    inc     %rbx
    jmp     1b
2:  movq    $WHOLE_FILE + 0x1000 - RECORD, current

next:
    cld
    mov     current, %rbx
    add     $RECORD, %rbx
    mov     %rbx, current
    subq    $1, remaining
    js      done
    lea     (%rbx), %rsi                                # the instruction, and what stands behind it
    mov     $CODE, %edi
    mov     $8, %ecx
    rep movsq
    lea     MEMORY(%rbx), %rsi
    mov     $ARENA, %edi
    mov     $ARENA_SIZE / 8, %ecx
    rep movsq
    mov     DS(%rbx), %ds
    mov     ES(%rbx), %es
    mov     FS(%rbx), %fs
    mov     GS(%rbx), %gs
    cmpq    $0, has_fsgsbase
    je      1f
    mov     FS_BASE(%rbx), %rax
    wrfsbase %rax
    mov     GS_BASE(%rbx), %rax
    wrgsbase %rax
    jmp     2f
1:  syscall3 SYS_arch_prctl, $ARCH_SET_FS, FS_BASE(%rbx), $0
    syscall3 SYS_arch_prctl, $ARCH_SET_GS, GS_BASE(%rbx), $0
2:  mov     $context, %edi
    .macro  give from, to
    mov     \from(%rbx), %rax
    mov     %rax, \to(%rdi)
    .endm
    give    RAX, 144
    give    RCX, 152
    give    RDX, 136
    give    RBX, 128
    give    RSP, 160
    give    RBP, 120
    give    RSI, 112
    give    RDI, 104
    give    R8, 40
    give    R9, 48
    give    R10, 56
    give    R11, 64
    give    R12, 72
    give    R13, 80
    give    R14, 88
    give    R15, 96
    give    RIP, 168
    give    RFLAGS, 176
    mov     $context, %esp
    mov     $SYS_rt_sigreturn, %eax
    syscall
fail:
    mov     $1, %edi
    mov     $SYS_exit, %eax
    syscall
done:
    xor     %edi, %edi
    mov     $SYS_exit, %eax
    syscall

handler:                                                # %rdx: the context of the interrupted instruction
    pushq   $0x202
    popfq
    mov     current, %rbx
    add     $OUT, %rbx
    .macro  take from, to
    mov     \from(%rdx), %rax
    mov     %rax, \to(%rbx)
    .endm
    take    144, RAX
    take    152, RCX
    take    136, RDX
    take    128, RBX
    take    160, RSP
    take    120, RBP
    take    112, RSI
    take    104, RDI
    take    40, R8
    take    48, R9
    take    56, R10
    take    64, R11
    take    72, R12
    take    80, R13
    take    88, R14
    take    96, R15
    take    168, RIP
    take    176, RFLAGS
    take    192, ERROR
    take    200, VECTOR
    take    216, CR2
    movzwl  184(%rdx), %eax
    mov     %rax, CS(%rbx)
    movzwl  190(%rdx), %eax
    mov     %rax, SS(%rbx)
    mov     %ds, %eax
    mov     %rax, DS(%rbx)
    mov     %es, %eax
    mov     %rax, ES(%rbx)
    mov     %fs, %eax
    mov     %rax, FS(%rbx)
    mov     %gs, %eax
    mov     %rax, GS(%rbx)
    lea     FS_BASE(%rbx), %r12
    lea     GS_BASE(%rbx), %r13
    syscall3 SYS_arch_prctl, $ARCH_GET_FS, %r12, $0
    syscall3 SYS_arch_prctl, $ARCH_GET_GS, %r13, $0
    mov     $ARENA, %esi
    lea     MEMORY(%rbx), %rdi
    mov     $ARENA_SIZE / 8, %ecx
    rep movsq
    jmp     next

restorer:
    jmp     fail

.data
.balign 8
altstack:
    .quad   stack, 0, 0x10000
signals:
    .byte   4, 5, 7, 8, 11, 0                           # SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV
.balign 8
action:
    .quad   handler, 0x4C000004, restorer, 0            # SA_NODEFER | SA_ONSTACK | SA_RESTORER | SA_SIGINFO
context:                                                # struct ucontext
    .quad   0x6, 0                                      # UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
    .quad   stack, 0, 0x10000
    .fill   18, 8, 0
    .word   0x33, 0, 0, 0x2B                            # cs, gs, fs, ss
    .fill   13, 8, 0
    .quad   0

.bss
.balign 16
current:        .skip 8
remaining:      .skip 8
has_fsgsbase:   .skip 8
stack:          .skip 0x10000
