#include "textflag.h"

// func int80(nr, a, b uintptr) int32
//
// A system call through the door of 32-bit programs, where filters meet other
// numbers.
TEXT ·int80(SB), NOSPLIT, $0-28
	MOVQ nr+0(FP), AX
	MOVQ a+8(FP), BX
	MOVQ b+16(FP), CX
	XORL DX, DX
	XORL SI, SI
	XORL DI, DI
	INT  $0x80
	MOVL AX, ret+24(FP)
	RET
