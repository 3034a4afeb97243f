"""Runs of a specification on machines that nobody here wrote: the emulators QEMU and Bochs."""
