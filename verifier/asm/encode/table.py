"""The instruction forms, one a line, in the order in which they are tried (Vol. 2, the opcode column).

Columns: names (``/`` between synonyms, the first is canonical), operand sizes (a suffix letter each; ``-``:
no operand size), operand kinds in AT&T order (see `kinds`), opcode, flags. ``CC`` stands for every condition
and adds its number to the opcode; ``w`` after the opcode adds 1 unless the operand size is a byte. Flags:

- ``/n``: the opcode extension in ModRM.reg.
- ``d64``: 64 bits without REX.W; also the size when nothing else tells one.
- ``plain``: the operand size changes neither prefix nor REX.W.
- ``as16``, ``as32``: plain, and the CPU takes that size whatever is written.
- ``whole``: the name takes no size suffix. ``lock``: ``lock`` is allowed with a memory destination.
- ``rep``: any repeat prefix is allowed. ``vex``: VEX-encoded, L=0. ``=name``: the canonical mnemonic.
- ``one``: written without its first operand, which is 1. ``twice``: the last operand is written once for two.
- ``star``: written with ``*``. ``bare``: the operands mean nothing and are dropped.
"""

from __future__ import annotations

_ALU = """
{name} wlq  Is,Ev   83  /{n} {lock}
{name} bwlq Iz,rAX  {rax}w
{name} bwlq Iz,Ev   80w /{n} {lock}
{name} bwlq Gv,Ev   {base}w {lock}
{name} bwlq Ev,Gv   {load}w
"""

_SHIFT = """
{name} bwlq I1,Ev  D0w /{n}
{name} bwlq Ib,Ev  C0w /{n}
{name} bwlq =cl,Ev D2w /{n}
{name} bwlq I1,Ev  D0w /{n} one
"""

_BIT = """
{name} wlq Gv,Ev 0F{op:02X} {lock}
{name} wlq Ib,Ev 0FBA /{n} {lock}
"""

_MOVE = """
mov    bwlq Gv,Ev   88w
mov    bwlq Ev,Gv   8Aw
mov    b    Iz,Zv   B0
mov    wl   Iz,Zv   B8
mov    bwlq Iz,Ev   C6w /0
mov    q    Iv,Zv   B8
mov    wl   Sw,Rv   8C
mov    q    Sw,Rv   8C as32
mov    w    Sw,Mw   8C as16
mov    wlq  Rv,Sd   8E as16
mov    w    Mw,Sd   8E as16
mov    q    Cq,Rq   0F20 d64
mov    q    Rq,Cq   0F22 d64
mov    q    Dq,Rq   0F21 d64
mov    q    Rq,Dq   0F23 d64
movabs q    Iv,Zv   B8  =mov
movabs bwlq O,rAX   A0w =mov
movabs bwlq rAX,O   A2w =mov
movsx  wlq  Eb,Gv   0FBE whole
movsx  lq   Ew,Gv   0FBF whole
movsx  q    Ed,Gv   63   whole
movsb  wlq  Eb,Gv   0FBE =movsx
movsw  lq   Ew,Gv   0FBF =movsx
movsl  q    Ed,Gv   63   =movsx
movslq/movsxd q Ed,Gv 63 =movsx whole
movzx  wlq  Eb,Gv   0FB6 whole
movzx  lq   Ew,Gv   0FB7 whole
movzb  wlq  Eb,Gv   0FB6 =movzx
movzw  lq   Ew,Gv   0FB7 =movzx
movnti lq   Gv,Mv   0FC3
movbe  wlq  Mv,Gv   0F38F0
movbe  wlq  Gv,Mv   0F38F1
cmovCC wlq  Ev,Gv   0F40
setCC  b    Ev      0F90 /0
lea    wlq  M,Gv    8D
xchg   q    rAX,rAX 90   plain =nop bare
xchg   w    rAX,rAX 90   =nop bare
xchg   wlq  rAX,Zx  90
xchg   wlq  Zx,rAX  90
xchg   bwlq Gv,Ev   86w  lock
xchg   bwlq Ev,Gv   86w  lock
bswap  lq   Zv      0FC8
"""

_STACK = """
push   wq Zv   50   d64
push   wq Is   6A   d64
push   wq Iz   68   d64
push   wq Mv   FF   /6 d64
push   wq =fs  0FA0 d64
push   wq =gs  0FA8 d64
pop    wq Zv   58   d64
pop    wq Mv   8F   /0 d64
pop    wq =fs  0FA1 d64
pop    wq =gs  0FA9 d64
pushf  wq -    9C   d64
popf   wq -    9D   d64
leave  wq -    C9   d64
enter  q  Iw,Ib C8  d64
"""

_ARITHMETIC = """
inc   bwlq Ev        FEw /0 lock
dec   bwlq Ev        FEw /1 lock
not   bwlq Ev        F6w /2 lock
neg   bwlq Ev        F6w /3 lock
mul   bwlq Ev        F6w /4
imul  bwlq Ev        F6w /5
div   bwlq Ev        F6w /6
idiv  bwlq Ev        F6w /7
imul  wlq  Ev,Gv     0FAF
imul  wlq  Is,Ev,Gv  6B
imul  wlq  Iz,Ev,Gv  69
imul  wlq  Is,Ev,Gv  6B twice
imul  wlq  Iz,Ev,Gv  69 twice
test  bwlq Iz,rAX    A8w
test  bwlq Iz,Ev     F6w /0
test  bwlq Gv,Ev     84w
test  bwlq Ev,Gv     84w
shld  wlq  Ib,Gv,Ev  0FA4
shld  wlq  =cl,Gv,Ev 0FA5
shrd  wlq  Ib,Gv,Ev  0FAC
shrd  wlq  =cl,Gv,Ev 0FAD
bsf   wlq  Ev,Gv     0FBC
bsr   wlq  Ev,Gv     0FBD
tzcnt wlq  Ev,Gv     F30FBC
lzcnt wlq  Ev,Gv     F30FBD
popcnt wlq Ev,Gv     F30FB8
cmpxchg bwlq Gv,Ev   0FB0w lock
xadd  bwlq Gv,Ev     0FC0w lock
cmpxchg8b  q Mq      0FC7 /1 d64 lock
cmpxchg16b q Mdq     0FC7 /1 lock whole
cbtw/cbw   w -       98 =cbw whole
cwtl/cwde  l -       98 =cwde whole
cltq/cdqe  q -       98 =cdqe whole
cwtd/cwd   w -       99 =cwd whole
cltd/cdq   l -       99 =cdq whole
cqto/cqo   q -       99 =cqo whole
andn  lq Ev,Bv,Gv    0F38F2 vex
bextr lq Bv,Ev,Gv    0F38F7 vex
bzhi  lq Bv,Ev,Gv    0F38F5 vex
blsr  lq Ev,Bv       0F38F3 /1 vex
blsmsk lq Ev,Bv      0F38F3 /2 vex
blsi  lq Ev,Bv       0F38F3 /3 vex
shlx  lq Bv,Ev,Gv    660F38F7 vex
shrx  lq Bv,Ev,Gv    F20F38F7 vex
sarx  lq Bv,Ev,Gv    F30F38F7 vex
rorx  lq Ib,Ev,Gv    F20F3AF0 vex
mulx  lq Ev,Bv,Gv    F20F38F6 vex
pdep  lq Ev,Bv,Gv    F20F38F5 vex
pext  lq Ev,Bv,Gv    F30F38F5 vex
"""

_BRANCH = """
jCC    -   J     70  near=0F80
jmp    q   J     EB  near=E9 d64 whole
call   q   J     E8  d64
jmp    q   Ev    FF  /4 d64 star
call   q   Ev    FF  /2 d64 star
ljmp   wl  Mp    FF  /5 star
lcall  wl  Mp    FF  /3 star
ret    q   -     C3  d64
ret    q   Iw    C2  d64
lret   wlq -     CB
lret   wlq Iw    CA
iret   wlq -     CF
loop   -   J     E2
loope/loopz   - J E1
loopne/loopnz - J E0
jrcxz  -   J     E3
jecxz  -   J     67E3
int3   -   -     CC
int    -   I3    CC =int3 bare
int    -   Ib    CD
int1   -   -     F1
syscall -  -     0F05
sysenter - -     0F34
sysret  lq -     0F07
sysexit lq -     0F35
"""

_SYSTEM = """
nop      -    -     90
nop      wlq  Ev    0F1F /0 bare
pause    -    -     F390
endbr64  -    -     F30F1EFA
endbr32  -    -     F30F1EFB
ud2/ud2a -    -     0F0B
ud1/ud2b wlq  Ev,Gv 0FB9
hlt      -    -     F4
clc      -    -     F8
stc      -    -     F9
cmc      -    -     F5
cld      -    -     FC
std      -    -     FD
cli      -    -     FA
sti      -    -     FB
clac     -    -     0F01CA
stac     -    -     0F01CB
lahf     -    -     9F
sahf     -    -     9E
swapgs   -    -     0F01F8
wrmsr    -    -     0F30
rdmsr    -    -     0F32
rdpmc    -    -     0F33
rdtsc    -    -     0F31
rdtscp   -    -     0F01F9
cpuid    -    -     0FA2
clts     -    -     0F06
invd     -    -     0F08
wbinvd   -    -     0F09
wbnoinvd -    -     F30F09
xgetbv   -    -     0F01D0
xsetbv   -    -     0F01D1
vmcall   -    -     0F01C1
vmmcall  -    -     0F01D9
lfence   -    -     0FAEE8
mfence   -    -     0FAEF0
sfence   -    -     0FAEF8
monitor  -    -     0F01C8
monitor  -    =rax,=ecx,=edx 0F01C8 bare
monitor  -    =rax,=ecx,=rdx 0F01C8 bare
monitor  -    =rax,=rcx,=edx 0F01C8 bare
monitor  -    =rax,=rcx,=rdx 0F01C8 bare
mwait    -    -     0F01C9
mwait    -    =eax,=ecx 0F01C9 bare
mwait    -    =rax,=rcx 0F01C9 bare
rdfsbase lq   Rv    F30FAE /0 whole
rdgsbase lq   Rv    F30FAE /1 whole
wrfsbase lq   Rv    F30FAE /2 whole
wrgsbase lq   Rv    F30FAE /3 whole
rdpkru   -    -     0F01EE
wrpkru   -    -     0F01EF
rdpid    q    Rq    F30FC7 /7 d64 whole
rdrand   wlq  Rv    0FC7 /6 whole
rdseed   wlq  Rv    0FC7 /7 whole
invlpg   -    M     0F01 /7
invpcid  -    Mdq,Gq 660F3882
clflush  -    Mb    0FAE /7
clflushopt -  Mb    660FAE /7
clwb     -    Mb    660FAE /6
prefetchnta - M     0F18 /0
prefetcht0  - M     0F18 /1
prefetcht1  - M     0F18 /2
prefetcht2  - M     0F18 /3
prefetch    - M     0F0D /0
prefetchw   - M     0F0D /1
sgdt     q    Ms    0F01 /0 d64
sidt     q    Ms    0F01 /1 d64
lgdt     q    Ms    0F01 /2 d64
lidt     q    Ms    0F01 /3 d64
sldt     wl   Rv    0F00 /0
sldt     q    Rv    0F00 /0 as32
sldt     w    Mw    0F00 /0 as16
str      wl   Rv    0F00 /1
str      q    Rv    0F00 /1 as32
str      w    Mw    0F00 /1 as16
smsw     wlq  Rv    0F01 /4
smsw     w    Mw    0F01 /4 as16
lldt     w    Ev    0F00 /2 as16
ltr      w    Ev    0F00 /3 as16
verr     w    Ev    0F00 /4 as16
verw     w    Ev    0F00 /5 as16
lmsw     w    Ev    0F01 /6 as16
lar      wlq  Mw,Gv 0F02
lar      wlq  Rv16,Gv 0F02
lar      lq   Rw,Gv 0F02
lsl      wlq  Mw,Gv 0F03
lsl      wlq  Rv16,Gv 0F03
lsl      lq   Rw,Gv 0F03
in       bwl  Ib,rAX  E4w
in       bwl  =dx,rAX ECw
out      bwl  rAX,Ib  E6w
out      bwl  rAX,=dx EEw
xlat     b    -       D7
xlat     b    BX      D7 bare
"""

_STRING = """
movs bwlq -     A4w rep
movs bwlq X,Y   A4w rep bare
cmps bwlq -     A6w rep
cmps bwlq Y,X   A6w rep bare
stos bwlq -     AAw rep
stos bwlq rAX,Y AAw rep bare
lods bwlq -     ACw rep
lods bwlq X,rAX ACw rep bare
scas bwlq -     AEw rep
scas bwlq Y,rAX AEw rep bare
ins  bwl  -     6Cw rep
ins  bwl  =dx,Y 6Cw rep bare
outs bwl  -     6Ew rep
outs bwl  X,=dx 6Ew rep bare
"""


def _alu() -> str:
    names = ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")
    return "".join(
        _ALU.format(
            name=name,
            n=n,
            lock="" if name == "cmp" else "lock",
            base=f"{8 * n:02X}",
            load=f"{8 * n + 2:02X}",
            rax=f"{8 * n + 4:02X}",
        )
        for n, name in enumerate(names)
    )


def _shifts() -> str:
    names = {0: "rol", 1: "ror", 2: "rcl", 3: "rcr", 4: "shl/sal", 5: "shr", 7: "sar"}
    return "".join(_SHIFT.format(name=name, n=n) for n, name in names.items())


def _bits() -> str:
    names = {4: "bt", 5: "bts", 6: "btr", 7: "btc"}
    return "".join(
        _BIT.format(name=name, n=n, op=0x83 + 8 * n, lock="" if name == "bt" else "lock")
        for n, name in names.items()
    )


TABLE = _alu() + _shifts() + _bits() + _MOVE + _STACK + _ARITHMETIC + _BRANCH + _SYSTEM + _STRING
