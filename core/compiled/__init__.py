"""Machine code for the innermost loops, emitted as LLVM vector code on the user's machine."""
