# Runs instructions at any CPL on an emulated machine, one a record (see lift_records.py); a multiboot kernel.
#
# Each state is entered by IRETQ. The breakpoint after the instruction, its fault, or the timer that ends a HLT comes
# back through the IDT, on IST1. The records lie in memory that the host shares; the machine switches itself off.

.set MAGIC, 0x1BADB002
.set FLAGS, 0x10000                     # the header says where to load
.set EXIT_PORT, 0x501                   # isa-debug-exit
.set PIC1, 0x20
.set PIC2, 0xA0
.set TIMER, 0x20                        # the vector of IRQ 0
.set CR0_BASE, 0x80000011               # PG, ET, PE
.set CR4_BASE, 0x20                     # PAE
.set MSR_EFER, 0xC0000080
.set MSR_FS_BASE, 0xC0000100
.set MSR_GS_BASE, 0xC0000101
.set MSR_KERNEL_GS_BASE, 0xC0000102

.text
.globl _start
image:
.balign 4
header:
    .long   MAGIC, FLAGS, -(MAGIC + FLAGS)
    .long   header, image, end, end, _start

.code32
_start:
    cli
    mov     $pml4, %eax
    mov     %eax, %cr3
    mov     $CR4_BASE, %eax
    mov     %eax, %cr4
    mov     $MSR_EFER, %ecx
    mov     $0x901, %eax                                # NXE, LME, SCE
    xor     %edx, %edx
    wrmsr
    mov     $CR0_BASE, %eax
    mov     %eax, %cr0
    lgdt    gdt_pointer
    ljmp    $0x10, $long

.code64
.macro  port_out port, value
    mov     $\value, %al
    out     %al, $\port
.endm

long:
    mov     $stack_top, %esp
    mov     $0x50, %eax
    ltr     %ax
    mov     $idt, %edi                                  # gate n leads to stub n
    mov     $stubs, %eax
    mov     $GATES, %ecx
1:  movw    %ax, (%rdi)
    movw    $0x10, 2(%rdi)
    movw    $0xEE01, 4(%rdi)                            # present, DPL 3, interrupt gate, IST1
    mov     %eax, %edx
    shr     $16, %edx
    mov     %dx, 6(%rdi)
    movq    $0, 8(%rdi)
    add     $16, %edi
    add     $16, %eax
    loop    1b
    lidt    idt_pointer
    port_out PIC1, 0x11                                 # IRQ 0 is vector 0x20; all are masked
    port_out PIC1+1, TIMER
    port_out PIC1+1, 4
    port_out PIC1+1, 1
    port_out PIC2, 0x11
    port_out PIC2+1, TIMER+8
    port_out PIC2+1, 2
    port_out PIC2+1, 1
    port_out PIC1+1, 0xFF
    port_out PIC2+1, 0xFF
    mov     SHARED, %rax
    mov     %rax, remaining
    movq    $SHARED + HEADER - RECORD, current

next:
    mov     $stack_top, %esp
    cld
    mov     current, %r15
    add     $RECORD, %r15
    mov     %r15, current
    subq    $1, remaining
    js      done
    mov     %r15, %rsi                                  # the instruction, and what stands behind it
    mov     $CODE, %edi
    mov     $8, %ecx
    rep movsq
    lea     MEMORY(%r15), %rsi
    mov     $ARENA, %edi
    mov     $ARENA_SIZE / 8, %ecx
    rep movsq
    mov     DS(%r15), %ds
    mov     ES(%r15), %es
    mov     FS(%r15), %fs
    mov     GS(%r15), %gs
    .macro  give_msr number, from
    mov     $\number, %ecx
    mov     \from(%r15), %eax
    mov     \from+4(%r15), %edx
    wrmsr
    .endm
    give_msr MSR_FS_BASE, FS_BASE
    give_msr MSR_GS_BASE, GS_BASE
    give_msr MSR_KERNEL_GS_BASE, KERNEL_GS_BASE
    mov     CR2(%r15), %rax
    mov     %rax, %cr2
    mov     CR4(%r15), %rax
    mov     %rax, %cr4
    mov     CR0(%r15), %rax
    mov     %rax, %cr0
    mov     CR8(%r15), %rax
    mov     %rax, %cr8
    mov     DR6(%r15), %rax
    mov     %rax, %dr6
    cmpq    $0, VECTOR(%r15)                            # a HLT: the timer will end it
    je      1f
    port_out 0x43, 0x30
    port_out 0x40, 0x00
    port_out 0x40, 0x10
    port_out PIC1+1, 0xFE
1:  pushq   SS(%r15)
    pushq   RSP(%r15)
    pushq   RFLAGS(%r15)
    pushq   CS(%r15)
    pushq   RIP(%r15)
    mov     RAX(%r15), %rax
    mov     RCX(%r15), %rcx
    mov     RDX(%r15), %rdx
    mov     RBX(%r15), %rbx
    mov     RBP(%r15), %rbp
    mov     RSI(%r15), %rsi
    mov     RDI(%r15), %rdi
    mov     R8(%r15), %r8
    mov     R9(%r15), %r9
    mov     R10(%r15), %r10
    mov     R11(%r15), %r11
    mov     R12(%r15), %r12
    mov     R13(%r15), %r13
    mov     R14(%r15), %r14
    mov     R15(%r15), %r15
    iretq

done:
    xor     %eax, %eax                                  # status 1
    mov     $EXIT_PORT, %dx
    out     %al, %dx
    hlt

# Which vectors push an error code: 8, 10 to 14, 17, 21.
.balign 16
stubs:
.set vector, 0
.rept GATES
    .balign 16
    .if     (vector >= 32) || !((1 << vector) & 0x227D00)
    pushq   $0
    .endif
    pushq   $vector
    jmp     back
    .set    vector, vector + 1
.endr

back:                                                   # the stack: r15, vector, error code, frame
    push    %r15
    mov     current, %r15
    add     $OUT, %r15
    mov     %rax, RAX(%r15)
    mov     %rcx, RCX(%r15)
    mov     %rdx, RDX(%r15)
    mov     %rbx, RBX(%r15)
    mov     %rbp, RBP(%r15)
    mov     %rsi, RSI(%r15)
    mov     %rdi, RDI(%r15)
    mov     %r8, R8(%r15)
    mov     %r9, R9(%r15)
    mov     %r10, R10(%r15)
    mov     %r11, R11(%r15)
    mov     %r12, R12(%r15)
    mov     %r13, R13(%r15)
    mov     %r14, R14(%r15)
    popq    R15(%r15)
    popq    VECTOR(%r15)
    popq    ERROR(%r15)
    popq    RIP(%r15)
    popq    CS(%r15)
    popq    RFLAGS(%r15)
    popq    RSP(%r15)
    popq    SS(%r15)
    .macro  take to, register
    mov     \register, %rax
    mov     %rax, \to(%r15)
    .endm
    take    DS, %ds
    take    ES, %es
    take    FS, %fs
    take    GS, %gs
    take    CR0, %cr0
    take    CR2, %cr2
    take    CR3, %cr3
    take    CR4, %cr4
    take    CR8, %cr8
    take    DR6, %dr6
    .macro  take_msr number, to
    mov     $\number, %ecx
    rdmsr
    mov     %eax, \to(%r15)
    mov     %edx, \to+4(%r15)
    .endm
    take_msr MSR_FS_BASE, FS_BASE
    take_msr MSR_GS_BASE, GS_BASE
    take_msr MSR_KERNEL_GS_BASE, KERNEL_GS_BASE
    mov     $CR0_BASE, %eax
    mov     %rax, %cr0
    mov     $CR4_BASE, %eax
    mov     %rax, %cr4
    mov     $pml4, %eax
    mov     %rax, %cr3
    xor     %eax, %eax
    mov     %rax, %cr8
    cld
    mov     $ARENA, %esi
    lea     MEMORY(%r15), %rdi
    mov     $ARENA_SIZE / 8, %ecx
    rep movsq
    port_out PIC1, 0x20
    port_out PIC1+1, 0xFF
    jmp     next

.balign 8
gdt:
    .quad   0
    .quad   0
    .irp    dpl, 0, 1, 2, 3                             # 64-bit code and data: 10h 18h, 21h 29h, 32h 3Ah, 43h 4Bh
    .quad   0x00AF9B000000FFFF | \dpl << 45
    .quad   0x00CF93000000FFFF | \dpl << 45
    .endr
    .quad   0x0000890000000067 | (tss - image + IMAGE) << 16
    .quad   0
    .quad   0x0040F10000003007                          # 0x60: DPL 3, read-only, of 0x3008 bytes
    .quad   0x00C0B30000000073                          # 0x68: DPL 1, of 0x74 pages
gdt_end:
gdt_pointer:
    .word   gdt_end - gdt - 1
    .long   gdt
idt_pointer:
    .word   GATES * 16 - 1
    .quad   idt
.balign 8
tss:
    .long   0
    .quad   stack_top, stack_top, stack_top             # RSP0 to RSP2
    .quad   0
    .quad   ist_top                                     # IST1
    .fill   6, 8, 0
    .quad   0
    .word   0, 104

# The first 256 MB are where they are, for CPL 0; code and arena lie in the third and fourth 2 MB, for everyone.
.balign 4096
pml4:
    .quad   page_directories - image + IMAGE + 7
    .fill   511, 8, 0
page_directories:
    .quad   page_directory - image + IMAGE + 7
    .fill   511, 8, 0
page_directory:
.set page, 0
.rept 512
    .if     page == CODE >> 21
    .quad   0x400000 + 0x87
    .elseif page == ARENA >> 21
    .quad   0x600000 + 0x87
    .elseif page < 128
    .quad   page << 21 | 0x83
    .else
    .quad   0
    .endif
    .set    page, page + 1
.endr

current:        .quad 0
remaining:      .quad 0
.balign 16
idt:            .fill GATES * 2, 8, 0
.fill   512, 8, 0
stack_top:
.fill   512, 8, 0
ist_top:
end:
