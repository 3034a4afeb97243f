"""Rules in which processors differ, or which the manuals do not state: one unknown bit each, for a whole run.

Proofs hold for both values of every bit; a counterexample says which are 1. The symbolic machine has them as
variables (`verifier.machine.state.rule`), the concrete interpreter as numbers (``Start.rules``).
"""

from __future__ import annotations

#: name -> the rule of docs/machine-model.md that it belongs to, and what a processor does where the bit is 1.
RULES: dict[str, tuple[str, str]] = {
    "ist_nulls_ss": ("F10", "delivery through an IST slot without a change of CPL loads a null SS"),
    "fault_in_nmi_delivery_blocks": ("H5", "an NMI whose delivery faults leaves NMIs blocked"),
    "ss_after_ss_casts_none": ("S4", "MOV SS or POP SS in the shadow of another casts none"),
    "ss_after_sti_casts_none": ("S4", "MOV SS or POP SS in the shadow of STI casts none"),
    "sti_after_ss_casts_none": ("S4", "STI in the shadow of MOV SS or POP SS casts none"),
    "rows_cast_once": ("S4", "after one that casts none for such a reason, the next one casts none either"),
    "ss_after_ss_traps": ("S6", "MOV SS or POP SS right after another does not hold back the #DB of TF"),
    "int_keeps_held_trap": ("S6", "a #DB that a load of SS holds back follows an INT n, in its handler"),
    "fault_keeps_held_trap": ("S7", "such a #DB follows a fault of the next instruction"),
    "event_keeps_held_trap": ("S7", "such a #DB follows an event that comes before the next instruction"),
    "frame_below_the_edge": ("F5", "RSP just above the lower canonical half is good: the frame is pushed below it"),
    "any_null_ss": ("R5", "IRET below CPL 3 takes a null SS of any RPL"),
    "rip_is_cut": ("R6", "IRET to code that is not 64-bit drops the upper half of RIP, and does not fault for it"),
    "outer_return_clears_base": ("R10", "IRET to an outer CPL clears the base of an FS or GS that it makes null"),
    "outer_return_clears_null": ("R10", "IRET to an outer CPL makes 0 of the null selectors 1 to 3"),
    "late_sysret_fault": ("I8", "SYSRET to an address that is not canonical faults only at CPL 3"),
    "prefix_names_segment": ("A2", "%cs:, %ds:, %es: and %ss: decide between #SS and #GP"),
}
